"""How much of a branch a turn is given."""

from __future__ import annotations

import pytest

from context_svc.messages import MOST_MATERIAL, MOST_MATERIAL_BYTES, STEP, left_out


def read(first: int, count: int, size: int = 100) -> list[tuple[int, int]]:
    return [(first + place, size) for place in range(count)]


def test_a_short_branch_is_given_whole() -> None:
    assert left_out(read(0, 5)) == 0


@pytest.mark.requirement("CHAT-8")
def test_the_material_begins_at_the_same_message_for_as_long_as_a_step_lasts() -> None:
    begins = [first + left_out(read(first, MOST_MATERIAL)) for first in range(1, 10 * STEP)]
    assert set(begins) == set(range(STEP, 10 * STEP + 1, STEP))
    assert begins == sorted(begins)


def test_the_material_is_bounded_by_its_bytes() -> None:
    long = MOST_MATERIAL_BYTES // 100
    assert left_out(read(0, MOST_MATERIAL, long)) == 3 * STEP
    assert left_out(read(STEP + 1, 20, MOST_MATERIAL_BYTES // 10)) == 10  # no step is near enough


def test_the_newest_message_is_always_given() -> None:
    assert left_out(read(7, 3, MOST_MATERIAL_BYTES + 1)) == 2
