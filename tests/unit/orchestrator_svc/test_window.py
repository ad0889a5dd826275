"""The window: what a model is shown always fits, begins alike, and is reported truly."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator_svc.conversation import (
    Message,
    Part,
    Placement,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Trust,
    said,
)
from orchestrator_svc.errors import WindowTooLong
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.material import Fact, Manner, Material, ModelFacts, Parameters, Summary
from orchestrator_svc.prompt import SYSTEM
from orchestrator_svc.window import Fitted, budget_tokens, fit, placement, unfolded

GAUGE = Gauge()
WORDS = st.text(alphabet="abc de,1é漢\n", min_size=1, max_size=300)


def user(text: str, **rest: object) -> Message:
    return Message(role=Role.USER, parts=(said(text),), **rest)  # type: ignore[arg-type]


def agent(text: str) -> Message:
    return Message(role=Role.ASSISTANT, parts=(said(text, Trust.UNTRUSTED),))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Message, ...]:
    turns = draw(st.lists(st.tuples(WORDS, WORDS), max_size=30))
    said_before = [message for ask, answer in turns for message in (user(ask), agent(answer))]
    return (*said_before, user(draw(WORDS)))


FACTS = st.lists(st.builds(Fact, key=st.sampled_from(["a", "b"]), value_json=WORDS), max_size=2).map(tuple)
MATERIAL = st.builds(
    Material,
    messages=histories(),
    summary=st.none() | st.builds(Summary, text=WORDS, messages=st.integers(0, 50)),
    dropped_messages=st.integers(0, 5),
    facts=FACTS,
    manner=st.builds(Manner, instructions=st.sampled_from(["", "be kind"])),
)


def fitted(material: Material, budget: int = 2_000, **rest: object) -> Fitted:
    given_ = {"system": SYSTEM, "tools": (), "steps": (), "budget": budget, "gauge": GAUGE}
    return fit(material=material, **{**given_, **rest})  # type: ignore[arg-type]


def size(result: Fitted) -> int:
    return GAUGE.text(result.window.system) + sum(map(GAUGE.message, result.window.messages))


@pytest.mark.requirement("CHAT-8")
@settings(max_examples=150, deadline=None)
@given(MATERIAL, st.integers(300, 3_000))
def test_it_never_is_larger_than_its_budget(material: Material, budget: int) -> None:
    try:
        result = fitted(material, budget)
    except WindowTooLong:
        assume(False)
        return
    assert size(result) == result.report.window_tokens <= budget == result.report.budget_tokens


@pytest.mark.requirement("CHAT-8")
@settings(max_examples=150, deadline=None)
@given(MATERIAL)
def test_the_newest_message_is_always_in_and_the_report_adds_up(material: Material) -> None:
    result = fitted(material)
    texts = [part.content for part in result.window.messages[-1].parts]
    newest = material.messages[-1].parts[0].content
    assert newest in texts
    report, summary = result.report, material.summary
    assert report.summarised_messages == (summary.messages if summary else 0)
    assert (
        report.kept_messages + report.dropped_messages == len(material.messages) + material.dropped_messages
    )


@pytest.mark.requirement("CHAT-8")
@settings(max_examples=150, deadline=None)
@given(histories(), WORDS, WORDS, FACTS, FACTS)
def test_the_next_turns_window_begins_like_this_one_when_nothing_is_cut(
    messages: tuple[Message, ...], answer: str, ask: str, now: tuple[Fact, ...], later: tuple[Fact, ...]
) -> None:
    first = fitted(Material(messages=messages, facts=now), 50_000)
    following = (*messages, agent(answer), user(ask))
    second = fitted(Material(messages=following, facts=later), 50_000)
    assert first.window.system == second.window.system
    stable = first.window.messages[:-1]
    assert second.window.messages[: len(stable)] == stable
    words = first.window.messages[-1].parts[0]
    assert second.window.messages[len(stable)].parts[0] == words


@pytest.mark.requirement("CHAT-8")
def test_nothing_is_cut_before_ninety_per_cent_then_it_goes_down_to_sixty() -> None:
    def conversation(length: int) -> Fitted:
        said_before = [user("word " * 20) if n % 2 == 0 else agent("word " * 20) for n in range(length)]
        return fitted(Material(messages=(*said_before, user("now"))), 4_000)

    shares = []
    for length in range(200):
        report = conversation(length).report
        shares.append((report.dropped_messages, report.window_tokens / report.budget_tokens))
    first_cut = next(n for n, (dropped, _) in enumerate(shares) if dropped)
    assert shares[first_cut - 1][1] > 0.88
    assert 0.55 < shares[first_cut][1] < 0.62
    assert all(share <= 0.9 for _, share in shares)
    cuts = {dropped for dropped, _ in shares}
    assert len(cuts) < 12  # the cut stays where it is for many turns: the prefix stays read


def test_while_the_cut_stays_the_window_begins_alike() -> None:
    said_before = [user(f"{n} " + "word " * 20) if n % 2 == 0 else agent("word " * 20) for n in range(120)]
    windows = [fitted(Material(messages=(*said_before[:n], user("now"))), 2_000) for n in range(60, 120, 2)]
    kept = 0
    for before, after in pairwise(windows):
        if before.report.dropped_messages == after.report.dropped_messages:
            kept += 1
            stable = before.window.messages[:-1]
            assert after.window.messages[: len(stable)] == stable
    assert kept > 20


def test_long_results_are_shortened_before_anything_is_refused() -> None:
    call = ToolCall(call_id="a", action="x", arguments="{}")
    long = ToolResult(call_id="a", action="x", content="head " + "word " * 20_000 + "tail")
    steps = (
        Message(role=Role.ASSISTANT, parts=(Part(content=call),)),
        Message(role=Role.TOOL, parts=(Part(content=long),)),
    )
    result = fitted(Material(messages=(user("hi"),)), steps=steps)
    shown = result.window.messages[-1].parts[0].content
    assert isinstance(shown, ToolResult)
    assert shown.content.startswith("head")
    assert shown.content.endswith("tail")
    assert "left out" in shown.content
    assert result.report.window_tokens <= 2_000


def test_a_message_longer_than_the_window_is_refused() -> None:
    with pytest.raises(WindowTooLong):
        fitted(Material(messages=(user("word " * 10_000),)))


def test_facts_and_time_stand_last_and_are_marked_as_data() -> None:
    facts = (Fact(key="b", value_json="2"), Fact(key="a", value_json="1"))
    material = Material(messages=(user("hi"),), facts=facts, turn_time_us=1_800_000_000_000_000)
    parts = fitted(material, tells_time=True).window.messages[-1].parts
    assert parts[0] == said("hi")
    assert parts[1].trust is Trust.UNTRUSTED
    assert parts[1].content == Text(text="Known facts:\na: 1\nb: 2\ntime: 2027-01-15 08:00 UTC")


def test_wishes_and_summary_stand_first_and_never_in_the_system_text() -> None:
    material = Material(
        messages=(user("hi"),),
        summary=Summary(text="They like moss.", messages=9),
        manner=Manner(units="metric"),
    )
    window = fitted(material).window
    assert window.system == SYSTEM
    first = window.messages[0]
    assert first.role is Role.USER
    assert [part.trust for part in first.parts] == [Trust.PERSON, Trust.UNTRUSTED]


def test_a_stored_answer_unfolds_into_calls_results_and_words_without_old_thoughts() -> None:
    call, lost = (ToolCall(call_id=i, action="x", arguments="{}") for i in ("a", "b"))
    parts = (
        Part(content=Reasoning(text="hm")),
        said("Wait.", Trust.UNTRUSTED),
        Part(content=call),
        Part(content=lost),
        Part(content=ToolResult(call_id="a", action="x", content="1")),
        said("One.", Trust.UNTRUSTED),
    )
    told = unfolded(Message(role=Role.ASSISTANT, parts=parts))
    assert [message.role for message in told] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    assert [part.content for part in told[0].parts] == [Text(text="Wait."), call]


def test_the_strictest_mark_of_all_that_may_be_shown_holds() -> None:
    open_ = Material(messages=(user("hi"),), facts=(Fact(key="a", value_json="1"),))
    assert placement(open_) is Placement.ANY
    secret = (Fact(key="a", value_json="1", placement=Placement.LOCAL_ONLY),)
    assert placement(replace(open_, facts=secret)) is Placement.LOCAL_ONLY
    marked = (user("hi", placement=Placement.LOCAL_ONLY),)
    assert placement(replace(open_, messages=marked)) is Placement.LOCAL_ONLY
    assert placement(replace(open_, placement=Placement.LOCAL_ONLY)) is Placement.LOCAL_ONLY


@pytest.mark.parametrize(
    ("model", "wanted", "expected"),
    [
        (ModelFacts(name="m", context_tokens=8_000), None, 8_000 - 1_024),
        (ModelFacts(name="m", context_tokens=8_000, output_tokens=512), None, 8_000 - 512),
        (ModelFacts(name="m", context_tokens=8_000, output_tokens=8_000), None, 6_000),
        (ModelFacts(name="m", context_tokens=8_000), 100, 7_900),
    ],
)
def test_the_budget_keeps_room_for_the_answer(model: ModelFacts, wanted: int | None, expected: int) -> None:
    assert budget_tokens(model, Parameters(max_output_tokens=wanted)) == expected


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_never_has_fewer_tokens(first: str, second: str) -> None:
    assert GAUGE.text(first + second) >= max(GAUGE.text(first), GAUGE.text(second))


def test_a_report_corrects_the_gauge_upwards_in_full_and_downwards_in_part() -> None:
    assert Gauge().corrected(guessed=110, reported=200).scale == pytest.approx(2.0)
    assert Gauge().corrected(guessed=220, reported=100).scale == pytest.approx(0.75)
    assert Gauge().corrected(guessed=100, reported=0) == Gauge()
    assert Gauge().corrected(guessed=1, reported=10_000).scale == 3.0


def long_branch(messages: int = 20) -> tuple[Message, ...]:
    """About 56 tokens each."""
    return tuple(replace(user("word " * 32), id=f"m{number}") for number in range(messages))


@pytest.mark.requirement("CHAT-8")
def test_a_summary_is_not_used_while_there_is_room_for_every_word() -> None:
    summary = Summary(text="They spoke.", messages=10, through="m9")
    told = fitted(Material(messages=long_branch(), summary=summary), budget=20_000)
    assert (told.report.kept_messages, told.report.summarised_messages, told.report.dropped_messages) == (
        20,
        0,
        0,
    )
    assert "They spoke." not in str(told.window)


@pytest.mark.requirement("CHAT-8")
def test_a_summary_takes_the_place_of_what_it_stands_for_when_the_window_is_nearly_full() -> None:
    summary = Summary(text="They spoke.", messages=10, through="m9")
    material = Material(messages=long_branch(), summary=summary)
    needed = fitted(replace(material, summary=None), budget=20_000).report.window_tokens
    told = fitted(material, budget=int(needed / 0.95))
    assert (told.report.kept_messages, told.report.summarised_messages, told.report.dropped_messages) == (
        10,
        10,
        0,
    )
    assert "They spoke." in str(told.window)
    assert "m9'" not in str(told.window)
    assert "m10'" in str(told.window)


@pytest.mark.requirement("CHAT-8")
def test_what_is_too_much_beside_the_summary_is_cut_and_reported_as_dropped() -> None:
    summary = Summary(text="They spoke.", messages=14, through="m3")  # ten of them are not even here
    told = fitted(Material(messages=long_branch(), summary=summary), budget=900)
    report = told.report
    assert report.summarised_messages == 14
    assert report.dropped_messages > 0
    assert report.kept_messages + report.dropped_messages == 16
    assert report.window_tokens <= 900
