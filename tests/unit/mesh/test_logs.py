import io
from pathlib import Path

import pytest
from rich.console import Console

from mesh.logs import LONGEST_LINE, Files, LastLines, Lines, Screen


@pytest.mark.requirement("RUN-1")
def test_lines_are_whole_however_the_bytes_arrive() -> None:
    lines = Lines()

    assert lines.feed(b"ein B") == []
    assert lines.feed("är\nzwei\r\ndr".encode()) == ["ein Bär", "zwei"]
    assert lines.end() == ["dr"]
    assert lines.end() == []


def test_a_character_cut_between_two_reads_stays_whole() -> None:
    lines, data = Lines(), "ä\n".encode()

    assert lines.feed(data[:1]) + lines.feed(data[1:]) == ["ä"]


def test_a_line_without_an_end_does_not_grow_without_end() -> None:
    lines = Lines()

    assert [len(line) for line in lines.feed(b"x" * (2 * LONGEST_LINE + 5))] == [LONGEST_LINE, LONGEST_LINE]
    assert lines.end() == ["xxxxx"]


def test_a_log_line_cannot_steer_the_terminal() -> None:
    assert Lines().feed(b"\x1b[2Jgone\x07\x9b\n") == ["�[2Jgone��"]


@pytest.mark.requirement("RUN-1")
def test_each_line_on_a_plain_screen_starts_with_its_room_and_has_no_colour() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out), ("context", "llm"))

    screen.write("context", "one [bold]two[/] " + "long " * 100)
    screen.write("llm", "three")

    first, second = out.getvalue().splitlines()
    assert first == "context │ one [bold]two[/] " + "long " * 100
    assert second == "llm     │ three"


@pytest.mark.requirement("RUN-1")
def test_a_terminal_gets_a_colour_for_each_room() -> None:
    out = io.StringIO()
    screen = Screen(
        Console(file=out, force_terminal=True, color_system="standard", no_color=False), ("a", "b")
    )

    screen.write("a", "x")
    screen.write("b", "x")

    one, other = out.getvalue().splitlines()
    assert one.split("a")[0] != other.split("b")[0]
    assert "\x1b[" in one


@pytest.mark.requirement("RUN-1")
def test_a_log_file_is_rotated_at_its_size_and_only_so_many_are_kept(tmp_path: Path) -> None:
    files = Files(tmp_path, limit=20, keep=2)

    for number in range(5):
        files.write("llm", f"line {number} of it")
    files.close()

    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts == {
        "llm.log": "line 4 of it\n",
        "llm.log.1": "line 3 of it\n",
        "llm.log.2": "line 2 of it\n",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_a_log_file_goes_on_where_the_last_run_stopped(tmp_path: Path) -> None:
    for _ in range(2):
        files = Files(tmp_path, limit=1000, keep=1)
        files.write("llm", "again")
        files.close()

    assert (tmp_path / "llm.log").read_text() == "again\nagain\n"


def test_only_the_last_lines_are_told() -> None:
    last = LastLines()
    for number in range(30):
        last.add(str(number))

    assert last.told().split() == [str(number) for number in range(18, 30)]
