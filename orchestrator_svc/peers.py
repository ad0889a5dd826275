"""The rooms that this one calls: llm_svc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import grpc

from assistant.generation.v1 import generation_pb2 as pb
from assistant.generation.v1 import generation_pb2_grpc as rpc
from chassis.auth import GRANT
from chassis.clock import Clock
from chassis.dial import streaming
from chassis.errors import DeadlineExceeded
from chassis.status import from_rpc_error
from orchestrator_svc.effects import Generate
from orchestrator_svc.errors import PeerFailed, Reason
from orchestrator_svc.generation import ModelFrame
from orchestrator_svc.material import ModelFacts, Order
from orchestrator_svc.wire import generation as wire

_FRESH_SECONDS = 30.0
_PAGE = 200
_CONNECT_SECONDS = 10.0  # long enough for a room that is being restarted
_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class LlmModels:
    """The port `Models` over a channel to llm_svc. The catalogue is kept for 30 s."""

    def __init__(self, channel: grpc.aio.Channel, clock: Clock) -> None:
        self._stub = rpc.GenerationServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        self._clock = clock
        self._models: tuple[ModelFacts, ...] = ()
        self._read_at = float("-inf")

    async def catalogue(self, wanted: Collection[str]) -> tuple[ModelFacts, ...]:
        """The models, the default one first; read anew when one of `wanted` is missing. Raises PeerFailed."""
        known = {model.name for model in self._models}
        fresh = self._clock.monotonic() - self._read_at < _FRESH_SECONDS
        if not self._models or not fresh or not known.issuperset(wanted):
            self._models = tuple([facts async for facts in self._read()])
            self._read_at = self._clock.monotonic()
        return self._models

    async def _read(self) -> AsyncIterator[ModelFacts]:
        request = pb.ListModelsRequest(page_size=_PAGE)
        try:
            while True:
                page = await self._stub.ListModels(request, timeout=_CONNECT_SECONDS, wait_for_ready=True)
                for model in page.models:
                    yield wire.facts(model)
                if not page.next_page_token:
                    return
                request.page_token = page.next_page_token
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from error
        except DeadlineExceeded as error:
            raise PeerFailed(Reason.PEER_UNAVAILABLE, "no time left") from error

    @asynccontextmanager
    async def open(self, step: Generate, order: Order) -> AsyncIterator[LlmSteps]:
        """Open a stream and begin `step`. Leaving the block stops the model at once. Raises PeerFailed."""
        metadata = ((GRANT, order.grant),) if order.grant else ()
        async with streaming(self._stub.Generate(metadata=metadata, wait_for_ready=True)) as call:
            steps = LlmSteps(call)
            await asyncio.sleep(0)  # the call is on its way, and checked there, while this packs
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await steps.write(wire.opening(step, order))
            except TimeoutError as error:
                raise PeerFailed(Reason.PEER_UNAVAILABLE, "llm_svc does not answer") from error
            yield steps


class LlmSteps:
    """The port `Steps` over one Generate call."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[ModelFrame]:
        """What the model says, until the stream ends. Raises PeerFailed when it breaks."""
        try:
            async for message in self._call:
                yield wire.model_frame(message)
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from error

    async def go_on(self, step: Generate) -> None:
        """Begin the next step with the results of the last one. Raises PeerFailed."""
        await self.write(wire.continuation(step))

    async def stop(self) -> None:
        """Stop the step that runs; its end, with what it used, follows. Raises PeerFailed."""
        await self.write(wire.stop())

    async def write(self, request: pb.GenerateRequest) -> None:
        """Send a frame. Raises PeerFailed with what the other side said when it has ended the stream."""
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from error
        except (
            grpc.aio.UsageError,
            asyncio.InvalidStateError,
        ) as error:  # written after the other side's end
            raise PeerFailed(Reason.PEER_UNAVAILABLE, "the stream has ended") from error


def _failed(error: grpc.aio.AioRpcError) -> PeerFailed:
    failure = from_rpc_error(error)
    passing = failure.code in _PASSING
    ours = Reason.PEER_UNAVAILABLE if passing or failure.reason is None else failure.reason
    known = failure.reason if failure.reason not in (None, "INTERNAL", "DRAINING") else None
    return PeerFailed(known or ours, f"{failure.code.name}: {failure.message}", retryable=passing)
