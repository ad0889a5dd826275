from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from chassis import call
from chassis.access import Audience
from chassis.auth import Authenticator, Revocations, RoomIdentity, room_issuer
from chassis.boundary import Boundary
from chassis.call import Call, RoomCaller
from chassis.clock import SystemClock
from chassis.dial import open_channel, streaming
from chassis.errors import DeadlineExceeded
from chassis.health import Health
from chassis.keys import KeySet, to_jwk
from chassis.serve import Server, serving
from chassis.status import from_rpc_error, reason_of
from chassis.testing import Everyone, serve_for_test
from chassis.tokens import ROOM_TOKEN, Signer, Verifier
from tests.interaction.chassis.echo import (
    BIDI,
    DESCRIPTORS,
    METHODS,
    SERVICE,
    UNARY,
    Echo,
    ask,
    policies,
    start,
    word,
)

SOON = 5
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
CLOCK = SystemClock()


@asynccontextmanager
async def room(
    folder: Path, echo: Echo, **options: Any
) -> AsyncIterator[tuple[Server, Health, grpc.aio.Channel]]:
    health = Health()
    bound = Boundary(policies=policies(), authenticator=Everyone(), domain="assistant.test")
    settings: dict[str, Any] = {
        "addresses": [f"unix:{folder}/r.sock"],
        "services": [echo.register],
        "service_names": [SERVICE],
        "boundary": bound,
        "health": health,
        "grace": timedelta(0),
    }
    async with (
        serving(**(settings | options)) as server,
        grpc.aio.insecure_channel(
            settings["addresses"][0], [("grpc.use_local_subchannel_pool", 1)]
        ) as channel,
    ):
        yield server, health, channel


async def test_a_server_starts_and_answers_in_milliseconds(socket_dir: Path) -> None:
    """A median so far below a second that no load hides a return of a slow start."""
    times = []
    for _ in range(10):
        began = time.perf_counter()
        async with room(socket_dir, Echo()) as (_, _, channel):
            await ask(channel, UNARY, word("a"))
            times.append(time.perf_counter() - began)
    print(f"start to first answer: median {median(times) * 1000:.1f} ms")  # noqa: T201 - for the reader
    assert median(times) < 0.5


@pytest.mark.requirement("SAFE-1")
async def test_the_socket_is_the_owners_alone_and_a_stale_one_is_replaced(socket_dir: Path) -> None:
    inner = socket_dir / "run"
    for _ in range(2):
        async with room(inner, Echo()) as (_, _, channel):
            assert await ask(channel, UNARY, word("a")) == ["a"]
            assert inner.stat().st_mode & 0o777 == 0o700
            assert (inner / "r.sock").stat().st_mode & 0o777 == 0o600


async def test_an_address_that_cannot_be_bound_is_an_error(socket_dir: Path) -> None:
    with pytest.raises(RuntimeError):
        async with room(socket_dir, Echo(), addresses=[f"unix:{socket_dir}/{'x' * 120}"]):
            pytest.fail("bound to a path that is too long")


@pytest.mark.requirement("OPS-2")
async def test_health_is_per_name_and_a_dependency_takes_no_room_out(socket_dir: Path) -> None:
    async with room(socket_dir, Echo()) as (_, health, channel):
        stub: Any = health_pb2_grpc.HealthStub(channel)

        async def state(name: str) -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)

        health.set("dependency/llm", False)
        assert [await state(name) for name in ("", SERVICE, "dependency/llm")] == [
            SERVING,
            SERVING,
            NOT_SERVING,
        ]
        health.set(SERVICE, False)
        assert [await state(name) for name in ("", SERVICE)] == [SERVING, NOT_SERVING]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await state("nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(caught.value) == "HEALTH_NAME_UNKNOWN"


@pytest.mark.requirement("OPS-1")
async def test_who_watches_health_hears_of_changes_and_of_the_end(socket_dir: Path) -> None:
    async with room(socket_dir, Echo()) as (server, health, channel):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        states = [(await watching.read()).status]
        health.set(SERVICE, False)
        states.append((await watching.read()).status)
        health.set(SERVICE, True)
        states.append((await watching.read()).status)
        stopping = asyncio.ensure_future(server.stop(timedelta(seconds=30)))
        states.append((await watching.read()).status)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watching.read()
        assert reason_of(caught.value) == "DRAINING"
        await asyncio.wait_for(stopping, SOON)
    assert states == [SERVING, NOT_SERVING, SERVING, NOT_SERVING]


@pytest.mark.requirement("OPS-1")
async def test_stopping_says_so_then_drains_then_lets_calls_end(socket_dir: Path) -> None:
    echo, seen = Echo(), []

    async def drain() -> None:
        seen.append(health._state(SERVICE))
        echo.release.set()

    async with room(socket_dir, echo, drain=drain) as (server, health, channel):
        asking = asyncio.ensure_future(ask(channel, UNARY, word("wait")))
        await asyncio.wait_for(echo.started.wait(), SOON)
        await asyncio.wait_for(
            asyncio.gather(server.stop(timedelta(seconds=30)), server.stop(timedelta(0))), SOON
        )
        assert await asking == ["wait"]
    assert seen == [NOT_SERVING]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_the_given_descriptors(version: str) -> None:
    async with serve_for_test(Echo().register, policies=policies(), descriptors=DESCRIPTORS) as channel:
        reflect: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="chassis.test.v1.Word"),
        ]
        listed, described = [answer async for answer in reflect(iter(requests))]
    assert SERVICE in [each.name for each in listed.list_services_response.service]
    assert b"chassis/test/v1/echo.proto" in described.file_descriptor_response.file_descriptor_proto[0]


async def test_reflection_is_refused_where_it_is_not_served() -> None:
    async with serve_for_test(Echo().register, policies=policies()) as channel:
        reflect: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflect(iter([b""])).read()
    assert reason_of(caught.value) == "NOT_SERVED"


class Rooms:
    """context_svc as the caller, llm_svc as the callee, each with its own key."""

    def __init__(self, callers: frozenset[str] = frozenset({"context_svc"})) -> None:
        key, issuer = Ed25519PrivateKey.generate(), room_issuer("context_svc")
        self.identity = RoomIdentity("context_svc", Signer(key, f"{issuer}#1", issuer), CLOCK)
        verifier = Verifier(
            KeySet([to_jwk(f"{issuer}#1", key.public_key())]),
            None,
            "llm_svc",
            ROOM_TOKEN,
            CLOCK,
            session=False,
        )
        self.boundary = Boundary(
            policies=policies(Audience.ROOM, callers=callers),
            authenticator=Authenticator(None, verifier, Revocations(CLOCK), CLOCK),
            domain="assistant.test",
        )


@pytest.mark.requirement("SAFE-1")
@pytest.mark.parametrize("method", METHODS)
async def test_a_dialled_call_says_which_room_and_for_which_request(socket_dir: Path, method: str) -> None:
    echo, rooms = Echo(), Rooms()
    serving_call = Call(request_id="outer-request", method="/m", caller=None, deadline=None, peer="")
    async with (
        room(socket_dir, echo, boundary=rooms.boundary),
        open_channel(f"unix:{socket_dir}/r.sock", identity=rooms.identity, callee="llm_svc") as channel,
    ):
        with call.entered(serving_call):
            assert await ask(channel, method, word("a")) == ["a"]
    assert echo.calls[0].caller == RoomCaller(name="context_svc")
    assert echo.calls[0].request_id == "outer-request"


@pytest.mark.requirement("SAFE-1")
async def test_a_room_that_is_not_listed_or_not_known_is_refused(socket_dir: Path) -> None:
    rooms = Rooms(callers=frozenset({"media_svc"}))
    address = f"unix:{socket_dir}/r.sock"
    async with room(socket_dir, Echo(), boundary=rooms.boundary):
        for identity, reason in (
            (rooms.identity, "CALLER_NOT_ALLOWED"),
            (None, "TOKEN_MISSING"),
            (Rooms().identity, "TOKEN_INVALID"),
        ):
            async with open_channel(address, identity=identity, callee="llm_svc") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(channel, UNARY, word("a"))
                assert from_rpc_error(caught.value).reason == reason


async def test_a_dialled_unary_call_ends_before_the_call_it_serves(socket_dir: Path) -> None:
    echo = Echo()

    async def given(left: float | None, **options: Any) -> float:
        deadline = None if left is None else time.monotonic() + left
        with call.entered(
            Call(request_id="outer-request", method="/m", caller=None, deadline=deadline, peer="")
        ):
            began = time.monotonic()
            await ask(channel, UNARY, word("a"), **options)
        got = echo.calls[-1].deadline
        assert got is not None
        return got - began

    async with (
        room(socket_dir, echo),
        open_channel(
            f"unix:{socket_dir}/r.sock", identity=None, callee="x", cap=timedelta(seconds=4)
        ) as channel,
    ):
        assert 1.0 < await given(3.0) < 2.9  # what is missing at the top is the way back
        assert 3.0 < await given(None) < 4.5
        assert 3.0 < await given(60) < 4.5
        assert 0.0 < await given(60, timeout=1) < 1.5
        with pytest.raises(DeadlineExceeded):
            await given(0.1)


async def test_a_dialled_stream_has_no_deadline_of_its_own_and_is_cancelled_on_leaving(
    socket_dir: Path,
) -> None:
    echo = Echo()
    async with (
        room(
            socket_dir,
            echo,
            boundary=Boundary(policies=policies(deadline=None), authenticator=Everyone(), domain="d"),
        ),
        open_channel(f"unix:{socket_dir}/r.sock", identity=None, callee="x") as channel,
    ):
        async with streaming(start(channel, BIDI, word("wait"))):
            await asyncio.wait_for(echo.started.wait(), SOON)
        await asyncio.wait_for(echo.cancelled.wait(), SOON)
    assert echo.calls[0].deadline is None


async def test_a_failure_without_our_details_has_no_reason(socket_dir: Path) -> None:
    async with open_channel(f"unix:{socket_dir}/nobody.sock", identity=None, callee="x") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, UNARY, word("a"), timeout=2)
    failure = from_rpc_error(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, None)


PROGRAM = textwrap.dedent(
    """
    import sys
    from contextlib import asynccontextmanager
    from datetime import timedelta
    from pathlib import Path
    from chassis.serve import main, run_until_signal
    from tests.interaction.chassis.echo import Echo
    from tests.interaction.chassis.test_serving import room

    @asynccontextmanager
    async def app():
        async with room(Path(sys.argv[1]), Echo()) as (server, _, _):
            print("ready", flush=True)
            yield server
        print("closed", flush=True)

    main(lambda: run_until_signal(app(), grace=timedelta(seconds=20)))
    """
)


@asynccontextmanager
async def program(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.requirement("OPS-1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_the_room_in_order(socket_dir: Path, number: signal.Signals) -> None:
    async with program(socket_dir) as process:
        process.send_signal(number)
        rest, _ = await asyncio.wait_for(process.communicate(), SOON)
    assert (rest, process.returncode) == (b"closed\n", 0)


@pytest.mark.requirement("OPS-1")
async def test_a_second_signal_ends_at_once(socket_dir: Path) -> None:
    async with (
        program(socket_dir) as process,
        grpc.aio.insecure_channel(f"unix:{socket_dir}/r.sock") as channel,
        streaming(start(channel, BIDI, word("wait"))) as held,
    ):
        await held.initial_metadata()
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == SERVING
        process.send_signal(signal.SIGTERM)
        assert (await watching.read()).status == NOT_SERVING
        process.send_signal(signal.SIGTERM)
        rest, _ = await asyncio.wait_for(process.communicate(), SOON)
    assert (rest, process.returncode) == (b"", 128 + signal.SIGTERM)
