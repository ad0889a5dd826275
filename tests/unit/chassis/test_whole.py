"""A file that several processes replace at once is always one of theirs, whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chassis.whole import create_whole, write_whole

pytestmark = pytest.mark.requirement("OPS-4")


def test_writers_that_share_a_folder_do_not_take_each_others_drafts(tmp_path: Path) -> None:
    path = tmp_path / "users.jwks"
    wanted = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda data: write_whole(path, data), wanted * 4))
    assert path.read_bytes() in wanted
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_what_was_there_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError):
        write_whole(path, b"x")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_of_those_that_make_a_file_at_once_one_wins_and_no_reader_sees_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "room.key"
    wanted = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda data: create_whole(path, data), wanted))
    assert sum(made) == 1
    assert path.read_bytes() == wanted[made.index(True)]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
