"""An llm_svc that does exactly what a test says: a real GenerationService, with a script for a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc

from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2 as pb
from assistant.generation.v1 import generation_pb2_grpc as rpc
from assistant.message.v1 import message_pb2 as msg
from chassis.access import Audience, Policies, Policy
from chassis.errors import Draining, NotServed

_SERVICE = "/assistant.generation.v1.GenerationService"
POLICIES: Policies = {
    f"{_SERVICE}/Generate": Policy(audience=Audience.OPEN, deadline=None),
    f"{_SERVICE}/ListModels": Policy(audience=Audience.OPEN, deadline=None),
}


@dataclass(frozen=True)
class Say:
    """Some text."""

    text: str


@dataclass(frozen=True)
class Ask:
    """Ask for an action."""

    call_id: str
    action: str
    arguments: str = "{}"


@dataclass(frozen=True)
class Break:
    """The step fails in-band."""

    reason: error_pb2.ErrorReason.ValueType
    message: str = "It broke."


@dataclass(frozen=True)
class Vanish:
    """The stream ends without a word."""


@dataclass(frozen=True)
class Hang:
    """Say nothing more, until the caller goes away."""


Line: TypeAlias = Say | Ask | Break | Vanish | Hang
Step: TypeAlias = Sequence[Line]


@dataclass
class ScriptedLlm(rpc.GenerationServiceServicer):
    """Plays `steps` one after the other, over however many streams; keeps what it was asked."""

    steps: list[Step]
    models: Sequence[pb.Model] = (
        pb.Model(name="parrot", provider="test", context_tokens=8_000, tools=True, local=True, default=True),
    )
    input_tokens: int = 100
    opened: list[pb.StartGeneration] = field(default_factory=list)
    continued: list[pb.ToolResults] = field(default_factory=list)
    listed: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    refusing: bool = False

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        self.listed += 1
        if self.refusing:
            raise Draining
        return pb.ListModelsResponse(models=self.models)

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        raise NotServed

    async def CountTokens(self, request: pb.CountTokensRequest, context: object) -> pb.CountTokensResponse:
        raise NotServed

    async def BatchGenerate(
        self, request: pb.BatchGenerateRequest, context: object
    ) -> pb.BatchGenerateResponse:
        raise NotServed

    async def Generate(
        self, request_iterator: AsyncIterator[pb.GenerateRequest], context: object
    ) -> AsyncIterator[pb.GenerateResponse]:
        try:
            async for request in request_iterator:
                if request.HasField("start"):
                    self.opened.append(request.start)
                    yield pb.GenerateResponse(
                        started=pb.GenerationStarted(model=request.start.model, provider="test", local=True)
                    )
                else:
                    self.continued.append(request.tool_results)
                step = self.steps.pop(0)
                for line in step:
                    if isinstance(line, Vanish):
                        return
                    if isinstance(line, Hang):
                        await asyncio.Event().wait()
                    yield _frame(line)
                if any(isinstance(line, Break) for line in step):
                    return
                asked = any(isinstance(line, Ask) for line in step)
                yield self._finished(asked)
                if not asked:
                    return
        finally:
            self.stopped.set()

    def _finished(self, asked: bool) -> pb.GenerateResponse:
        reason = msg.FINISH_REASON_TOOL_CALLS if asked else msg.FINISH_REASON_STOP
        usage = msg.Usage(input_tokens=self.input_tokens, output_tokens=5)
        return pb.GenerateResponse(step_finished=pb.StepFinished(finish_reason=reason, usage=usage))

    def register(self, server: grpc.aio.Server) -> None:
        rpc.add_GenerationServiceServicer_to_server(self, server)


def _frame(line: Line) -> pb.GenerateResponse:
    match line:
        case Say(text=text):
            return pb.GenerateResponse(text=text)
        case Ask(call_id=call_id, action=action, arguments=arguments):
            call = msg.ToolCallPart(call_id=call_id, action=action, arguments_json=arguments)
            return pb.GenerateResponse(tool_call=call)
        case Break(reason=reason, message=message):
            failed = pb.StepFailed(reason=reason, message=message, retryable=True)
            return pb.GenerateResponse(step_failed=failed)
        case _:
            return pb.GenerateResponse(progress=pb.GenerationProgress())


PROVIDER_FAILED = error_pb2.ERROR_REASON_PROVIDER_FAILED
