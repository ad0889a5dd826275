"""Which model step was at its model when its run was cut off, and what it had read and said."""

from __future__ import annotations

import pytest

from context_svc.cut_steps import Cut, Trail

pytestmark = pytest.mark.requirement("CHAT-5")


def test_the_first_step_is_at_its_model_from_the_begin_of_the_work() -> None:
    trail = Trail()
    assert trail.cut(0) == Cut(read=0, written=0)
    trail.said("1234567")
    trail.said("89é")
    assert trail.cut(0) == Cut(read=0, written=int(11 / 3.6) + 1)


def test_the_next_step_is_at_its_model_when_all_actions_of_the_last_one_have_ended() -> None:
    trail = Trail()
    trail.said("Let me look.")
    trail.began("a", 1)
    trail.began("b", 1)
    trail.ended("b", 36)
    assert trail.cut(1) is None
    trail.ended("a", 36)
    assert trail.cut(1) == Cut(read=int(84 / 3.6) + 1, written=0)
    trail.said("x" * 36)
    assert trail.cut(1) == Cut(read=int(84 / 3.6) + 1, written=11)


def test_actions_of_a_step_without_a_receipt_are_its_own_words() -> None:
    trail = Trail()
    trail.said("x" * 36)
    trail.began("a", 1)
    trail.said("x" * 36)
    assert trail.cut(0) == Cut(read=0, written=21)


def test_an_action_that_never_began_ends_nothing() -> None:
    """It was denied."""
    trail = Trail()
    trail.ended("a", 36)
    trail.said("x" * 36)
    assert trail.cut(1) == Cut(read=0, written=11)
