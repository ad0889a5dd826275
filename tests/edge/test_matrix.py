"""Each RPC, each kind of caller, each door of the real edge before the real rooms; and each failure in one form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from assistant.error.v1 import error_pb2
from chassis import ids
from chassis.access import Audience
from chassis.testing import socket_directory
from tests.edge import proxy
from tests.interaction.trust.callers import Kind, bearer, kinds
from tests.interaction.trust.contract import Rpc, rpcs
from tests.interaction.trust.doors import Door, Json, Native, Outcome, Web
from tests.interaction.trust.rooms import LOCAL, Mesh, Person, device, running
from tests.interaction.trust.test_strangers import (
    LISTS,
    MAKES,
    OF_ONESELF,
    WORD,
    asked,
    belongings,
    in_band,
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class House:
    """The rooms, their edge, and one person."""

    mesh: Mesh
    doors: Mapping[str, Door]
    anna: Person


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """Everything, from nothing."""
    async with AsyncExitStack() as stack:
        sockets = stack.enter_context(socket_directory())
        mesh = await stack.enter_async_context(running(folder, sockets))
        values = proxy.local_values(sockets, proxy.free_port()) | {"JWKS_FOLDER": str(mesh.keys)}
        edge = await asyncio.to_thread(stack.enter_context, proxy.envoy(sockets, values))
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}", LOCAL)
        await stack.enter_async_context(channel)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=edge.url, timeout=15))
        yield House(
            mesh=mesh,
            doors={"gRPC": Native(channel), "grpc-web": Web(client), "JSON": Json(client)},
            anna=await mesh.register(),
        )


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


IDENTITY = {
    "TOKEN_MISSING",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "TOKEN_REVOKED",
    "SCOPE_MISSING",
    "CALLER_NOT_ALLOWED",
    "GRANT_INVALID",
    "NOT_SERVED",
    "NONE",
}
GATE = {"nobody", "garbage", "expired", "another audience", "a room"}  # told apart before a room is asked


A_PERSONS = next(rpc for rpc in rpcs() if rpc.policy.audience is Audience.USER)


def expected(rpc: Rpc, name: str, kind: Kind) -> str:
    """What an edge door says: it knows no internal call, and its own gate comes before a room's table."""
    if not rpc.public:
        return kind.refusal(A_PERSONS) if name in GATE else "NOT_SERVED"
    if not rpc.policy.served and (rpc.policy.audience is Audience.OPEN or name not in GATE):
        return "NOT_SERVED"
    return kind.refusal(rpc)


def has(door: str, rpc: Rpc) -> bool:
    """Whether a call can be made at this door at all."""
    return not (door == "JSON" and rpc.rule is None) and not (door == "grpc-web" and rpc.talks)


@pytest.mark.requirement("ID-9")
async def test_each_rpc_tells_each_kind_of_caller_what_its_row_says_on_each_door(here: House) -> None:
    wrong, asked = {}, 0
    for name, kind in (await kinds(here.mesh, here.anna)).items():
        for door_name, door in here.doors.items():
            for rpc in rpcs():
                if not has(door_name, rpc):
                    continue
                asked += 1
                refusal = expected(rpc, name, kind)
                outcome = await door.ask(rpc, None, kind.headers, refused=bool(refusal))
                said = outcome.reason if outcome.reason in IDENTITY else ""
                if said != refusal:
                    wrong[f"{door_name}, {name}: {rpc}"] = (
                        outcome.reason,
                        outcome.code,
                        outcome.message,
                        refusal,
                    )
    assert not wrong, wrong
    assert asked > 1_500


CATALOGUE = {each.removeprefix("ERROR_REASON_") for each in dict(error_pb2.ErrorReason.items())}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call that fails."""

    method: str
    reason: str
    fields: Mapping[str, object]
    signed_in: bool = True
    broken: tuple[str, ...] = ()
    retry: bool = False


CASES = (
    Case(method="GetSession", reason="SESSION_NOT_FOUND", fields={"session_id": "unknown"}),
    Case(
        method="GetSession", reason="INVALID_FIELD", fields={"session_id": "x" * 65}, broken=("session_id",)
    ),
    Case(
        method="CreateSession",
        reason="INVALID_FIELD",
        fields={"session_id": "no uuid", "title": "t" * 201},
        broken=("session_id", "title"),
    ),
    Case(method="GetMessage", reason="MESSAGE_NOT_FOUND", fields={"message_id": "unknown"}),
    Case(method="ListSessions", reason="PAGE_TOKEN_INVALID", fields={"page_token": "made up"}),
    Case(method="GetModel", reason="UNKNOWN_MODEL", fields={"model": "nobody/nothing"}),
    Case(method="GetMedia", reason="MEDIA_NOT_FOUND", fields={"media_id": "unknown"}),
    Case(method="RevokeDevice", reason="DEVICE_NOT_FOUND", fields={"device_id": "unknown"}),
    Case(method="GetSession", reason="TOKEN_MISSING", fields={"session_id": "x"}, signed_in=False),
    Case(
        method="Login",
        reason="CREDENTIALS_WRONG",
        fields={"email": "nobody@example.org", "password": "wrong wrong wrong wrong", "device": None},
        signed_in=False,
    ),
    Case(
        method="Login",
        reason="LOGIN_THROTTLED",
        fields={"email": "guessed@example.org", "password": "wrong wrong wrong wrong", "device": None},
        signed_in=False,
        retry=True,
    ),
)


@pytest.mark.requirement("SAFE-7")
async def test_a_failure_is_the_same_on_every_door(here: House) -> None:
    session = await here.mesh.session(here.anna)
    by_name = {str(rpc): rpc for rpc in rpcs()}
    for case in CASES:
        rpc = by_name[case.method]
        fields = {"session_id": session, **case.fields}
        if "device" in fields:
            fields["device"] = device()
        headers = bearer(here.anna.tokens.access_token) if case.signed_in else {}
        request = rpc.request(**fields)
        if case.retry:
            for _ in range(10):
                await here.doors["gRPC"].ask(rpc, request, headers)
        heard: dict[str, Outcome] = {}
        for name, door in here.doors.items():
            request_id = ids.uuid()
            outcome = await door.ask(rpc, request, {**headers, "x-request-id": request_id}, refused=True)
            assert outcome.request_id, (case, name)
            heard[name] = outcome
        assert {name: each.reason for name, each in heard.items()} == dict.fromkeys(heard, case.reason), case
        assert case.reason in CATALOGUE
        for each in heard.values():
            assert set(each.fields) >= set(case.broken), (case, each)
            assert (each.retry_seconds is not None) is case.retry, (case, each)
        same = {
            (each.code, each.message, each.fields, tuple(each.metadata.items())) for each in heard.values()
        }
        assert len(same) == 1, same


LET_IN = {"WatchContext", "SubscribeEvents"}  # streams that an empty request opens, and that then stay silent


@pytest.mark.requirement("SAFE-7")
async def test_whatever_a_served_call_answers_to_an_empty_request_is_catalogued_on_every_door(
    here: House,
) -> None:
    """Generated from the contract: an empty message breaks something in most calls, and never names the inside."""
    headers = bearer(here.anna.tokens.access_token)
    compared = 0
    for rpc in rpcs():
        if not rpc.public or rpc.sends or str(rpc) in {"Logout", "DeleteAccount"}:
            continue
        heard = {
            name: await door.ask(rpc, None, headers, refused=str(rpc) not in LET_IN)
            for name, door in here.doors.items()
            if has(name, rpc) and not (name == "JSON" and "{" in _path(rpc))  # a path always has its parts
        }
        seen = {(each.reason, each.code, each.message, each.fields) for each in heard.values()}
        assert len(seen) == 1, (str(rpc), seen)
        for each in heard.values():
            assert not each.reason or each.reason in CATALOGUE, (str(rpc), each)
            assert each.reason not in {"INTERNAL", "NONE"}, (str(rpc), each)
            assert not each.reason or each.request_id, (str(rpc), each)
            assert each.reason != "INVALID_FIELD" or each.fields, (str(rpc), each)
        compared += len(heard)
    assert compared > 100


def _path(rpc: Rpc) -> str:
    assert rpc.rule is not None
    return str(getattr(rpc.rule, str(rpc.rule.WhichOneof("pattern"))))


@pytest.mark.requirement("ID-9")
async def test_what_is_named_of_somebody_else_does_not_exist_on_any_door(here: House) -> None:
    things = await belongings(here.mesh, here.anna)
    bob = await here.mesh.register("bob@example.org")
    headers = bearer(bob.tokens.access_token)
    own = LISTS | OF_ONESELF | MAKES.keys()
    compared = 0
    for rpc in rpcs():
        if not rpc.policy.served or rpc.policy.audience is not Audience.USER or rpc.sends or str(rpc) in own:
            continue
        for name, door in here.doors.items():
            outcome = await door.ask(rpc, rpc.request(**asked(rpc, things)), headers, refused=True)
            assert WORD.encode() not in outcome.body, (rpc, name)
            reason = outcome.reason or in_band(outcome)
            assert reason.endswith("_NOT_FOUND"), (str(rpc), name, outcome, outcome.body)
            compared += 1
    assert compared >= 50
