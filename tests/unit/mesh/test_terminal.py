import io

import pytest
from rich.console import Console

from mesh import answer
from mesh.terminal import Terminal, note

ANSWER = "# Title\n\nA *word*.\n\n```python\nprint(1)\n```\n\nThe end."


def event(body: answer.Body) -> answer.Event:
    return answer.Event(sequence=1, turn="t", body=body)


def shown(*bodies: answer.Body) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, color_system=None, width=60, height=20, legacy_windows=False
    )
    terminal = Terminal(console)
    for body in bodies:
        terminal.show(event(body))
    terminal.end()
    return out.getvalue()


@pytest.mark.requirement("RUN-3")
def test_markdown_is_printed_block_by_block_and_each_block_for_good_once() -> None:
    text = shown(
        answer.Accepted(),
        *(answer.Said(text=char) for char in ANSWER),
        answer.Finished(text=ANSWER, model="m"),
    )
    last = text.rpartition("\x1b[?25l")[2]

    assert "**" not in text.replace("*word*", "")
    assert text.rstrip().endswith("\x1b[?25h") or "The end." in last
    for words in ("Title", "A word.", "print(1)", "The end."):
        assert words in text


@pytest.mark.requirement("SAFE-2")
def test_an_answer_cannot_steer_the_terminal() -> None:
    text = shown(
        answer.Said(text="before\x1b]0;owned\x07after\u202e\n\n"), answer.Finished(text="", model="m")
    )

    assert "\x1b]0;" not in text
    assert "\u202e" not in text


@pytest.mark.requirement("RUN-3")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            answer.ToolBegan(call_id="c", action="calculator", arguments='{"x":  "17*23"}'),
            '… calculator {"x": "17*23"}',
        ),
        (answer.ToolEnded(call_id="c", action="calculator", result="391", failure=""), "✓ calculator → 391"),
        (answer.ToolEnded(call_id="c", action="web", result="", failure="timed out"), "✗ web: timed out"),
        (answer.Failed(reason="PARTIAL", message="", retryable=True), "The turn failed: PARTIAL Ask again."),
        (answer.Cancelled(), "Stopped. What was said is kept."),
        (answer.Said(text="x"), ""),
        (answer.ToolBegan(call_id="c", action="a\x1b[2J", arguments="[]"), "… a�[2J []"),
    ],
)
def test_what_happens_beside_the_text_is_one_line(body: answer.Body, told: str) -> None:
    assert note(body) == told


def test_a_long_result_is_cut() -> None:
    told = note(answer.ToolEnded(call_id="c", action="a", result="x" * 5000, failure=""))

    assert len(told) < 220
    assert told.endswith("…")


def test_exact_arguments_are_shown_in_full_when_consent_is_asked() -> None:
    arguments = '{"to": "' + "x" * 5000 + '"}'

    assert arguments in note(
        answer.ApprovalAsked(approval_id="a", action="mail", arguments=arguments, digest="")
    )
