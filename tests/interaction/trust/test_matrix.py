"""Each RPC and each kind of caller, on the rooms' own sockets: the table is the contract's, not a person's."""

from __future__ import annotations

import pytest

from chassis.access import Audience
from tests.interaction.trust.callers import Forge, kinds
from tests.interaction.trust.contract import Rpc, rpcs
from tests.interaction.trust.doors import Native
from tests.interaction.trust.rooms import Mesh

NOT_SERVED = "NOT_SERVED"
IDENTITY = {
    "TOKEN_MISSING",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "TOKEN_REVOKED",
    "SCOPE_MISSING",
    "CALLER_NOT_ALLOWED",
    "GRANT_INVALID",
    "REVOCATION_FEED_LOST",
}


@pytest.mark.requirement("ID-9")
async def test_each_rpc_tells_each_kind_of_caller_what_its_row_says(mesh: Mesh) -> None:
    anna = await mesh.register()
    wrong = {}
    for kind, caller in (await kinds(mesh, anna)).items():
        for rpc in rpcs():
            expected = caller.refusal(rpc) if rpc.policy.served else NOT_SERVED
            door = Native(mesh.channels[rpc.room])
            outcome = await door.ask(rpc, None, caller.headers, refused=bool(expected))
            said = outcome.reason if outcome.reason in {*IDENTITY, NOT_SERVED, "NONE"} else ""
            if said != expected:
                wrong[f"{kind}: {rpc}"] = (outcome.reason, expected)
    assert not wrong


@pytest.mark.requirement("ID-9")
def test_the_matrix_has_every_rpc_of_the_contract() -> None:
    assert len(rpcs()) >= 107
    assert {rpc.policy.audience for rpc in rpcs()} == set(Audience)


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("room", ["context", "orchestrator", "llm", "media"])
async def test_every_room_refuses_every_forged_token(mesh: Mesh, room: str) -> None:
    anna = await mesh.register()
    forge = Forge(mesh=mesh, account=anna.account)
    rpc, internal = _a_call(room)
    door = Native(mesh.channels[room])
    if not internal:
        assert (await door.ask(rpc, None, {"authorization": f"Bearer {forge.good()}"})).reason == ""
    outcomes = {
        name: (await door.ask(rpc, None, headers, refused=True)).reason
        for name, headers in forge.forgeries().items()
    }
    assert len(outcomes) >= 40
    assert {
        name: said for name, said in outcomes.items() if said not in {"TOKEN_INVALID", "TOKEN_MISSING"}
    } == {}


def _a_call(room: str) -> tuple[Rpc, bool]:
    """A served call of a room that asks for a token: of a person where the room has people."""
    wanted = {
        "context": "ListDevices",
        "llm": "ListModels",
        "media": "ListMedia",
        "orchestrator": "ListActions",
    }
    rpc = next(rpc for rpc in rpcs() if str(rpc) == wanted[room])
    return rpc, rpc.policy.audience is Audience.ROOM
