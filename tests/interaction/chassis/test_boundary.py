from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.chat.v1 import chat_pb2
from assistant.message.v1 import message_pb2
from assistant.reminder.v1 import reminder_pb2
from chassis import ids, telemetry
from chassis.access import Audience, Policy
from chassis.boundary import Boundary
from chassis.dial import streaming
from chassis.health import Health
from chassis.serve import serving
from chassis.status import from_rpc_error
from chassis.testing import Everyone, eventually, serve_for_test
from chassis.validation import violations
from tests.interaction.chassis.echo import (
    BIDI,
    CLIENT,
    METHODS,
    SECRET,
    SERVER,
    SERVICE,
    UNARY,
    Echo,
    ask,
    policies,
    start,
    word,
)

WISH = ids.uuid()
SAID = chat_pb2.NewMessage(
    session_id="s", client_message_id=ids.uuid(), parts=[message_pb2.Part(text="hi")], client_time=Timestamp()
)
LATE = chat_pb2.NewMessage()
LATE.CopyFrom(SAID)
LATE.client_time.nanos = 2**31 - 1
BAD_BYTES = b"\x0a\xff\xff\xff\xff\x0f"
SOON = 5


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure("test", "INFO", "json", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def channel(echo: Echo) -> AsyncIterator[grpc.aio.Channel]:
    async with serve_for_test(echo.register, policies=policies()) as opened:
        yield opened


def boundary(**options: object) -> Boundary:
    settings: dict[str, object] = {
        "policies": policies(),
        "authenticator": Everyone(),
        "domain": "assistant.test",
    }
    return Boundary(**(settings | options))  # type: ignore[arg-type]


async def failing(
    channel: grpc.aio.Channel, method: str, *requests: bytes, **options: object
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(channel, method, *requests, **options)
    return caught.value


def text_of(error: grpc.aio.AioRpcError) -> str:
    return repr((error.details(), list(error.trailing_metadata()), list(error.initial_metadata())))


@pytest.mark.parametrize("method", METHODS)
async def test_every_kind_of_call_is_answered(channel: grpc.aio.Channel, method: str) -> None:
    assert await ask(channel, method, word("hello")) == ["hello"]


@pytest.mark.requirement("SAFE-4")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("trouble", ["boom", "wrong", "late"])
async def test_the_text_of_a_fault_never_leaves(
    channel: grpc.aio.Channel, method: str, trouble: str, lines: io.StringIO
) -> None:
    error = await failing(channel, method, word(trouble))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "Internal error."
    assert from_rpc_error(error).reason == "INTERNAL"
    for inside in ("hunter2", "db.internal", "RuntimeError", "TimeoutError", "TypeError", "object"):
        assert inside not in text_of(error)


@pytest.mark.requirement("SAFE-2")
async def test_a_fault_is_logged_with_its_traceback_and_without_credentials(
    channel: grpc.aio.Channel, lines: io.StringIO
) -> None:
    error = await failing(channel, UNARY, word("boom"))
    faults = [line for line in map(json.loads, lines.getvalue().splitlines()) if line["level"] == "ERROR"]
    assert len(faults) == 1
    assert "echo.py" in faults[0]["traceback"]
    assert faults[0]["request_id"] == from_rpc_error(error).request_id
    assert SECRET not in lines.getvalue()
    assert "hunter2" not in lines.getvalue()


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_argument(
    channel: grpc.aio.Channel, method: str
) -> None:
    error = await failing(channel, method, BAD_BYTES)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(error).reason == "MALFORMED_MESSAGE"


@pytest.mark.requirement("SAFE-7")
@pytest.mark.parametrize("method", METHODS)
async def test_a_broken_rule_names_the_field_and_the_rule(channel: grpc.aio.Channel, method: str) -> None:
    failure = from_rpc_error(await failing(channel, method, word("x" * 41)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [(each.field, each.rule) for each in failure.violations] == [("text", "STRING_MAX_LEN")]


async def test_each_message_of_a_stream_is_checked(channel: grpc.aio.Channel, echo: Echo) -> None:
    error = await failing(channel, BIDI, word("fine"), word("x" * 41))
    assert from_rpc_error(error).reason == "INVALID_FIELD"
    assert len(echo.calls) == 1


async def test_a_servicer_may_answer_bad_messages_itself(echo: Echo) -> None:
    bound = boundary(in_band=frozenset({BIDI}))
    async with serve_for_test(echo.register, policies={}, boundary=bound) as channel:
        assert await ask(channel, BIDI, word("x" * 41), word("fine")) == ["x" * 41, "fine"]
        assert from_rpc_error(await failing(channel, UNARY, word("x" * 41))).reason == "INVALID_FIELD"


@pytest.mark.requirement("SAFE-4")
@pytest.mark.parametrize(
    ("message", "field"),
    [
        (
            reminder_pb2.CreateReminderRequest(text="tea", request_id=WISH, due_time=Timestamp(nanos=-1)),
            "due_time",
        ),
        (
            reminder_pb2.CreateReminderRequest(
                text="tea", request_id=WISH, due_time=Timestamp(seconds=2**62)
            ),
            "due_time",
        ),
        (chat_pb2.ListEventsRequest(session_id="s", wait=Duration(seconds=1, nanos=-5)), "wait"),
        (
            chat_pb2.SendMessageBatchRequest(messages=[SAID, LATE]),
            "messages[1].client_time",
        ),
    ],
    ids=["a broken part", "too far", "two signs", "below"],
)
def test_a_time_that_cannot_be_is_a_broken_rule(message: Message, field: str) -> None:
    assert [found.field for found in violations(message)] == [field]


def test_what_is_no_message_breaks_no_rule() -> None:
    assert violations(b"bytes") == ()


@pytest.mark.requirement("SAFE-7")
@pytest.mark.parametrize("method", METHODS)
async def test_a_declared_failure_arrives_whole(channel: grpc.aio.Channel, method: str) -> None:
    failure = from_rpc_error(
        await failing(channel, method, word("refuse"), metadata=(("x-request-id", "req-12345"),))
    )
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == "OVERLOADED"
    assert failure.metadata == {"limit": "4", "request_id": "req-12345"}
    assert failure.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_of_a_handler_pass_as_they_are(channel: grpc.aio.Channel, method: str) -> None:
    assert await ask(channel, method, word("bytes")) == ["ready-made"]


@pytest.mark.parametrize("method", METHODS)
async def test_the_boundary_ends_a_call_whose_cap_is_over(echo: Echo, method: str) -> None:
    capped = policies(deadline=timedelta(milliseconds=50))
    async with serve_for_test(echo.register, policies=capped) as channel:
        failure = from_rpc_error(await failing(channel, method, word("wait"), timeout=SOON))
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert echo.cancelled.is_set()


async def test_a_shorter_deadline_of_the_client_counts(channel: grpc.aio.Channel, echo: Echo) -> None:
    await ask(channel, UNARY, word("a"), timeout=3)
    await ask(channel, UNARY, word("b"))
    (clients, cap) = (each.deadline for each in echo.calls)
    assert clients is not None
    assert cap is not None
    assert 1 < cap - clients < 5, "the policy's cap is 5 s"


async def test_a_long_stream_has_no_deadline(echo: Echo) -> None:
    async with serve_for_test(echo.register, policies=policies(deadline=None)) as channel:
        await ask(channel, BIDI, word("a"))
    assert echo.calls[0].deadline is None
    assert echo.calls[0].remaining() is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("sent", "kept"), [("device-7_abc", True), ("short", False), ("x" * 65, False), ("bad id!!", False)]
)
async def test_the_request_id_is_the_clients_if_it_has_the_form(
    channel: grpc.aio.Channel, echo: Echo, method: str, sent: str, kept: bool
) -> None:
    async with streaming(start(channel, method, word("a"), metadata=(("x-request-id", sent),))) as begun:
        if kept and method in (UNARY, CLIENT):
            returned = dict(await asyncio.wait_for(begun.trailing_metadata(), SOON))["x-request-id"]
        else:
            returned = dict(await asyncio.wait_for(begun.initial_metadata(), SOON))["x-request-id"]
    assert (returned == sent) is kept
    assert echo.calls[0].request_id == returned


@pytest.mark.requirement("SAFE-4")
@pytest.mark.parametrize("method", METHODS)
async def test_a_method_without_a_policy_is_refused(echo: Echo, method: str) -> None:
    async with serve_for_test(echo.register, policies={}) as channel:
        failure = from_rpc_error(await failing(channel, method, word("a")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")
    assert echo.calls == []


async def test_an_unknown_method_and_a_declared_one_answer_alike(echo: Echo) -> None:
    async with serve_for_test(echo.register, policies=policies(served=False)) as channel:
        declared = from_rpc_error(await failing(channel, UNARY, word("a")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, f"/{SERVICE}/Nothing", word("a"))
    assert declared.reason == from_rpc_error(caught.value).reason == "NOT_SERVED"
    assert echo.calls == []


@pytest.mark.requirement("SAFE-1")
async def test_an_operators_method_is_refused_over_the_network(echo: Echo, socket_dir: object) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bound = boundary(policies=policies(Audience.LOCAL))
    addresses = [f"unix:{socket_dir}/o.sock", f"127.0.0.1:{port}"]
    async with serving(
        addresses=addresses,
        bare_tcp=True,
        services=[echo.register],
        service_names=[],
        boundary=bound,
        health=Health(),
        grace=timedelta(0),
    ):
        async with grpc.aio.insecure_channel(addresses[0]) as local:
            assert await ask(local, UNARY, word("a")) == ["a"]
        async with grpc.aio.insecure_channel(addresses[1]) as network:
            assert from_rpc_error(await failing(network, UNARY, word("a"))).reason == "CALLER_NOT_ALLOWED"


@pytest.mark.requirement("CHAT-5")
@pytest.mark.parametrize("method", [SERVER, BIDI])
async def test_leaving_a_stream_cancels_its_handler(
    channel: grpc.aio.Channel, echo: Echo, method: str
) -> None:
    begun = start(channel, method, word("wait"))
    async with streaming(begun):
        await asyncio.wait_for(echo.started.wait(), SOON)
    await asyncio.wait_for(echo.cancelled.wait(), SOON)
    assert begun.cancelled()


async def test_a_merely_dropped_stream_is_why(channel: grpc.aio.Channel, echo: Echo) -> None:
    """The fact `streaming` rests on: when this fails, grpc.aio has learned to cancel, and it may go."""
    begun = start(channel, SERVER, word("wait"))
    await asyncio.wait_for(echo.started.wait(), SOON)
    assert await ask(channel, UNARY, word("a")) == ["a"]
    assert not echo.cancelled.is_set()
    begun.cancel()


@pytest.mark.parametrize("method", [SERVER, BIDI])
async def test_a_quiet_stream_is_opened_without_a_message(
    channel: grpc.aio.Channel, echo: Echo, method: str
) -> None:
    async with streaming(start(channel, method, word("wait"))) as begun:
        opened = await asyncio.wait_for(begun.initial_metadata(), SOON)
        assert "x-request-id" in dict(opened)
        assert not echo.release.is_set()


async def test_a_stream_that_fails_at_once_answers_with_a_bare_status(channel: grpc.aio.Channel) -> None:
    error = await failing(channel, SERVER, word("refuse"))
    assert list(error.initial_metadata()) == []
    assert "x-request-id" in dict(error.trailing_metadata())


@pytest.mark.requirement("SAFE-2")
async def test_one_line_is_logged_per_call_and_none_of_its_content(
    channel: grpc.aio.Channel, lines: io.StringIO
) -> None:
    await ask(channel, UNARY, word("canary-51"), metadata=(("x-request-id", "req-12345"),))
    await failing(channel, SERVER, word("canary-52 refuse"))
    await failing(channel, UNARY, word("canary-53" * 10))
    await eventually(lambda: lines.getvalue().count('"message": "call"') == 3)  # it follows the answer
    calls = [line for line in map(json.loads, lines.getvalue().splitlines()) if line["message"] == "call"]
    assert [(line["method"], line["code"], line["reason"]) for line in calls] == [
        (UNARY, "OK", ""),
        (SERVER, "RESOURCE_EXHAUSTED", "OVERLOADED"),
        (UNARY, "INVALID_ARGUMENT", "INVALID_FIELD"),
    ]
    assert calls[0]["request_id"] == "req-12345"
    assert calls[0]["caller"] == "none"
    assert calls[0]["ms"] >= 0
    assert "canary" not in lines.getvalue()


async def test_more_calls_than_places_are_refused_and_places_come_back(echo: Echo) -> None:
    bound = boundary(unary_limit=1, stream_limit=1)
    async with serve_for_test(echo.register, policies={}, boundary=bound) as channel:
        for method in (UNARY, BIDI):
            echo.started.clear()
            async with streaming(start(channel, method, word("wait"))) as held:
                reading = asyncio.ensure_future(held.read() if method == BIDI else held)
                await asyncio.wait_for(echo.started.wait(), SOON)
                failure = from_rpc_error(await failing(channel, method, word("a")))
                assert failure.reason == "OVERLOADED"
                assert failure.retry_after is not None
                reading.cancel()
            await eventually(lambda: bound.metrics().open_streams + bound.metrics().unary_in_flight == 0)
            assert await ask(channel, method, word("a")) == ["a"]


async def test_calls_are_counted_by_method_and_code(echo: Echo) -> None:
    bound = boundary()
    async with serve_for_test(echo.register, policies={}, boundary=bound) as channel:
        await ask(channel, UNARY, word("a"))
        await ask(channel, UNARY, word("b"))
        await failing(channel, UNARY, word("boom"))
        async with streaming(start(channel, BIDI, word("wait"))):
            await asyncio.wait_for(echo.started.wait(), SOON)
            assert bound.metrics().open_streams == 1
        await eventually(lambda: bound.metrics().open_streams == 0)
    assert bound.metrics().calls == {(UNARY, "OK"): 2, (UNARY, "INTERNAL"): 1, (BIDI, "CANCELLED"): 1}


def test_every_standard_method_has_a_policy() -> None:
    assert isinstance(boundary().policies["/grpc.health.v1.Health/Check"], Policy)
