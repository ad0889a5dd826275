"""The actions of the room, and the prompt they stand in."""

from __future__ import annotations

import pytest

from orchestrator_svc.app import built_in
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.errors import Reason
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.prompt import SYSTEM
from orchestrator_svc.tools.calculator import CALCULATOR
from orchestrator_svc.tools.clock import CLOCK
from orchestrator_svc.tools.tool import Schema
from orchestrator_svc.wire import vocabulary


def test_two_actions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="current_time"):
        Catalogue((CLOCK, CALCULATOR, CLOCK))


def test_the_standing_prefix_is_the_same_bytes_whatever_the_order() -> None:
    assert (
        Catalogue((CLOCK, CALCULATOR)).standing_prefix() == Catalogue((CALCULATOR, CLOCK)).standing_prefix()
    )
    assert [tool.name for tool in built_in().standing_prefix().tools] == ["calculate", "current_time"]


def test_the_system_text_is_short_enough_to_be_read_cold() -> None:
    assert Gauge().text(SYSTEM) <= 260  # a careful guess of at most 200 real tokens
    assert len(SYSTEM) <= 800


@pytest.mark.requirement("AGT-3")
@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ("{}", "expression"),
        ('{"expression": 3}', "expression"),
        ('{"expression": ""}', "expression"),
        ('{"expression": "1", "extra": 1}', ""),
        ("[]", ""),
        ("{", ""),
        ("[" * 100_000, ""),
        ("null", ""),
    ],
)
def test_a_fault_names_its_field(arguments: str, field: str) -> None:
    fault = Schema(CALCULATOR.schema).fault(arguments)
    assert fault is not None
    assert fault.field == field
    assert fault.message


def test_every_reason_of_this_room_is_in_the_contract() -> None:
    for reason in Reason:
        assert vocabulary.reason_name(vocabulary.reason(reason)) == reason


def test_a_reason_that_the_contract_lacks_is_internal() -> None:
    assert vocabulary.reason_name(vocabulary.reason("NO_SUCH_REASON")) == "INTERNAL"
