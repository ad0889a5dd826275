import io
import re

import pytest
from rich.console import Console

from mesh import answer
from mesh.terminal import Terminal, note

ANSWER = "# Title\n\nA *word*.\n\n```python\nprint(1)\n```\n\nThe end."


def event(body: answer.Body) -> answer.Event:
    return answer.Event(sequence=1, turn="t", body=body)


def shown(*bodies: answer.Body) -> str:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, force_terminal=True, color_system=None, width=60, height=20))
    for body in bodies:
        terminal.show(event(body))
    terminal.end()
    return out.getvalue()


def screen(written: str) -> list[str]:
    """What is left on a terminal: line ends, carriage returns, one line up and clear line are obeyed."""
    lines, row = [""], 0
    for step in re.findall(r"\x1b\[1A|\x1b\[2K|\x1b\[\?25[lh]|\r|\n|[^\x1b\r\n]+", written):
        match step:
            case "\x1b[1A":
                row -= 1
            case "\x1b[2K":
                lines[row] = ""
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "\r" | "\x1b[?25l" | "\x1b[?25h":
                pass
            case text:
                lines[row] = text
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.requirement("RUN-3")
def test_the_screen_holds_each_block_of_the_markdown_once_whatever_pieces_it_came_in() -> None:
    whole = [answer.Said(text=ANSWER)]
    pieces = [answer.Said(text=char) for char in ANSWER]
    end = answer.Finished(text=ANSWER, model="m")

    one, other = (screen(shown(answer.Accepted(), *said, end)) for said in (whole, pieces))

    assert one == other
    assert [line.strip(" ┃┏┓┗┛━") for line in one if line.strip(" ┃┏┓┗┛━")] == [
        "Title",
        "A word.",
        "print(1)",
        "The end.",
    ]


@pytest.mark.requirement("RUN-3")
def test_a_tool_step_stands_between_what_was_said_before_and_after_it() -> None:
    ended = answer.ToolEnded(call_id="c", action="calculator", result="391", failure="")

    seen = screen(shown(answer.Said(text="Let me see."), ended, answer.Said(text="391."), answer.Cancelled()))

    assert seen == ["Let me see.", "✓ calculator → 391", "391.", "Stopped. What was said is kept."]


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
        (answer.Failed(reason="LATER", message="", retryable=True), "The turn failed: LATER Ask again."),
        (
            answer.Failed(reason="FROZEN", message="No progress.", retryable=True),
            "The turn failed: No progress. Ask again, or `/retry`; what was said so far is kept.",
        ),
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
