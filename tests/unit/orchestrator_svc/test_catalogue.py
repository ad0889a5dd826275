"""The actions of the room, and the prompt they stand in."""

from __future__ import annotations

import pytest

from assistant.agent.v1 import agent_pb2
from assistant.error.v1 import error_pb2
from orchestrator_svc import policy
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.errors import Reason
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.material import Purpose
from orchestrator_svc.prompt import SYSTEM
from orchestrator_svc.selection import Limits, Selection
from orchestrator_svc.toolbox import toolbox
from orchestrator_svc.tools import find_tools
from orchestrator_svc.tools.calculator import CALCULATOR
from orchestrator_svc.tools.clock import CLOCK
from orchestrator_svc.tools.hosted import HOSTED
from orchestrator_svc.tools.tool import Effect, Schema
from orchestrator_svc.wire import frames, vocabulary
from tests.unit.orchestrator_svc.kit import NAMES, kit, settings
from tests.unit.orchestrator_svc.playbook import order


def test_two_actions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="current_time"):
        Catalogue((CLOCK, CALCULATOR, CLOCK))


def test_the_standing_prefix_is_the_same_bytes_whatever_the_order() -> None:
    one, other = Catalogue((CLOCK, CALCULATOR)), Catalogue((CALCULATOR, CLOCK))
    assert one.standing_prefix(Limits(), 8_000) == other.standing_prefix(Limits(), 8_000)


@pytest.mark.requirement("AGT-2")
async def test_a_model_is_offered_what_is_configured_and_nothing_else() -> None:
    async with toolbox(settings()) as bare:
        offered = [tool.name for tool in bare.standing_prefix(Limits(), 8_000).tools]
        assert offered == sorted(["calculate", "convert_units", "current_time", *(t.name for t in HOSTED)])
        assert list(Selection(policy.offered(bare.offers(), order()), Limits(), 8_000).allowed) == offered
        assert set(policy.offered(bare.offers(), order(purpose=Purpose.ACTION))) == {*NAMES, *offered}
    async with kit() as (full, _):
        everything = sorted({*NAMES, *offered} - {find_tools.NAME})
        assert [tool.name for tool in full.standing_prefix(Limits(), 8_000).tools] == everything


@pytest.mark.requirement("AGT-2")
async def test_what_is_not_configured_is_listed_as_such() -> None:
    async with toolbox(settings()) as bare:
        for tool in bare:
            told = frames.action(tool)
            ready = told.state == agent_pb2.ACTION_STATE_READY
            assert ready is (tool.effect is Effect.NONE and not tool.missing)
            assert ready is (told.state_reason == error_pb2.ERROR_REASON_UNSPECIFIED)
            if not ready:
                assert told.state == agent_pb2.ACTION_STATE_NOT_CONFIGURED
                assert told.state_reason == error_pb2.ERROR_REASON_ACTION_NOT_CONFIGURED


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
