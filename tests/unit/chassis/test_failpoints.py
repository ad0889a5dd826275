"""Failpoints: armed only under test, at their place, at their time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chassis import failpoints
from chassis.failpoints import FailpointReached


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm({})


def test_a_failpoint_acts_the_nth_time_its_place_is_reached_and_once() -> None:
    failpoints.arm({"FP": "here:2:raise", "FP_ENABLED": "1"})
    failpoints.reach("elsewhere")
    failpoints.reach("here")
    with pytest.raises(FailpointReached):
        failpoints.reach("here")
    failpoints.reach("here")


@pytest.mark.parametrize(
    "environment", [{}, {"FP": "here:1:raise"}, {"FP": "here:1:raise", "FP_ENABLED": "no"}]
)
def test_nothing_happens_in_a_process_that_is_not_under_test(environment: dict[str, str]) -> None:
    failpoints.arm(environment)
    failpoints.reach("here")


def test_a_room_takes_the_failpoint_that_its_supervisor_handed_on() -> None:
    failpoints.arm({"CONTEXT_FP": "here:1:raise", "CONTEXT_FP_ENABLED": "1"})
    with pytest.raises(FailpointReached):
        failpoints.reach("here")


@pytest.mark.parametrize("text", ["here", "here:0:kill", "here:1:explode", ":1:kill"])
def test_a_misspelt_failpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        failpoints.arm({"FP": text, "FP_ENABLED": "1"})
