"""The scripted model's script: rules, moves, templates, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_svc.generation import FinishReason, Request, Tool
from llm_svc.providers.script import (
    DEFAULT_SCRIPT,
    Act,
    Ask,
    End,
    Fail,
    Report,
    Say,
    Script,
    ScriptInvalid,
    Think,
    Wait,
    load,
)
from tests.unit.llm_svc.windows import CALCULATE, CURRENT_TIME, answered, asking, called, user

pytestmark = pytest.mark.requirement("LLM-9")
TOOLS = (CALCULATE, CURRENT_TIME)


def acts(request: Request, script: Script | None = None) -> list[Act]:
    return list((script or load(DEFAULT_SCRIPT)).play(request))


def written(tmp_path: Path, text: str) -> Script:
    file = tmp_path / "script.toml"
    file.write_text(text)
    return load(file)


def test_the_default_script_echoes_what_no_other_rule_takes() -> None:
    assert (
        "".join(act.text for act in acts(asking(user("hello"))) if isinstance(act, Say)) == "You said: hello"
    )


def test_the_default_script_asks_for_the_calculator_and_then_says_its_result() -> None:
    asked = user("What is 17*23? Use the calculator.")
    assert acts(asking(asked, tools=TOOLS)) == [Ask(name="calculate", arguments='{"expression":"17*23"}')]
    after = acts(asking(asked, called(), answered("391"), tools=TOOLS))
    assert "".join(act.text for act in after if isinstance(act, Say)) == "The answer is 391."


def test_a_tool_that_is_not_on_offer_is_not_asked_for() -> None:
    assert all(isinstance(act, Say) for act in acts(asking(user("What is 17*23?"))))


@pytest.mark.parametrize(
    ("text", "zone"),
    [("What time is it?", "UTC"), ("what is the time in Asia/Tokyo please", "Asia/Tokyo")],
)
def test_the_default_script_asks_for_the_time_in_the_zone_named(text: str, zone: str) -> None:
    assert acts(asking(user(text), tools=TOOLS)) == [
        Ask(name="current_time", arguments=f'{{"zone":"{zone}"}}')
    ]


def test_the_number_of_tokens_and_the_pause_between_them_are_taken_from_the_text() -> None:
    played = acts(asking(user("stream 3 tokens 20 ms apart")))
    assert played == [Say("word "), Wait(0.02), Say("word "), Wait(0.02), Say("word ")]


def test_a_failure_comes_after_as_many_tokens_as_asked() -> None:
    played = acts(asking(user("fail with ENGINE_CRASHED after 2 tokens")))
    assert played == [Say("word "), Say("word "), Fail("ENGINE_CRASHED")]


def test_every_move_is_played_in_its_order(tmp_path: Path) -> None:
    script = written(
        tmp_path,
        """
        [[rule]]
        contains = "go"
        moves = [
          { do = "think", text = "hm" },
          { do = "text", tokens = ["a", "b"] },
          { do = "pause", ms = 5 },
          { do = "text", text = "abcd", size = 3 },
          { do = "call", name = "t", arguments = '{"q":"{user}"}' },
          { do = "usage", input = 1, output = 2, cached = 3 },
          { do = "finish", reason = "LENGTH" },
        ]
        """,
    )
    assert acts(asking(user('Go "now"')), script) == [
        Think("hm"),
        Say("a"),
        Say("b"),
        Wait(0.005),
        Say("abc"),
        Say("d"),
        Ask(name="t", arguments='{"q":"Go \\"now\\""}'),
        Report(input=1, output=2, cached=3, estimated=False),
        End(FinishReason.LENGTH),
    ]


def test_a_rule_may_hold_for_one_step_only(tmp_path: Path) -> None:
    script = written(
        tmp_path,
        """
        [[rule]]
        step = 2
        moves = [{ do = "text", text = "two" }]
        [[rule]]
        moves = [{ do = "text", text = "any" }]
        """,
    )
    assert acts(asking(user("x")), script) == [Say("any")]
    assert acts(asking(user("x"), called(), answered()), script) == [Say("two")]


def test_a_script_in_which_no_rule_holds_is_wrong(tmp_path: Path) -> None:
    script = written(tmp_path, '[[rule]]\ncontains = "never"\nmoves = []\n')
    with pytest.raises(ScriptInvalid, match="no rule holds"):
        acts(asking(user("x")), script)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not toml [", "script.toml"),
        ("[[rule]]\nmoves = [{do='dance'}]", "dance"),
        ("[[rule]]\nmoves = []\nextra = 1", "extra"),
        ("[[rule]]\nmatches = '('\nmoves = []", "rule 1"),
        ("[[rule]]\nmoves = [{do='finish', reason='TIRED'}]", "TIRED"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ScriptInvalid, match=why):
        written(tmp_path, text)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ScriptInvalid, match=r"absent\.toml"):
        load(tmp_path / "absent.toml")


def test_the_default_script_titles_a_conversation_by_its_first_words() -> None:
    request = "Write a title for the conversation that begins with these words:\n"
    said = acts(asking(user(request + "Plan a trip to Rome in May, fail with TIMEOUT")))
    assert said == [Say("Plan a trip to Rome in")]


@pytest.mark.requirement("TOOL-5")
@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("Remember that I like tea.", "remember", '{"text":"I like tea"}'),
        (
            "Remind me tomorrow at 6 pm to call mum",
            "set_reminder",
            '{"text":"call mum","time":"tomorrow at 6 pm"}',
        ),
        ("What are my reminders?", "list_reminders", "{}"),
    ],
)
def test_the_default_script_can_show_the_actions_that_need_nothing(
    text: str, name: str, arguments: str
) -> None:
    tool = Tool(name=name, description="Does it.", schema='{"type":"object"}')
    (call,) = [act for act in acts(asking(user(text), tools=(tool,))) if isinstance(act, Ask)]
    assert (call.name, call.arguments) == (name, arguments)
