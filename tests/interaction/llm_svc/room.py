"""llm_svc itself on a unix socket, with the scripted model, called over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from assistant.generation.v1 import generation_pb2 as pb
from assistant.generation.v1 import generation_pb2_grpc as rpc
from assistant.message.v1 import message_pb2
from chassis.call import Grant, RoomCaller
from chassis.testing import Everyone, socket_directory
from llm_svc.app import app
from llm_svc.settings import Settings


@asynccontextmanager
async def room(tmp_path: Path, **settings: object) -> AsyncIterator[rpc.GenerationServiceStub]:
    """The room's stub, as orchestrator_svc would hold it."""
    with socket_directory() as folder:
        given = Settings(
            **{  # type: ignore[arg-type]
                "listen": f"unix:{folder}/llm.sock",
                "data_dir": tmp_path,
                "keys_dir": tmp_path,
                "context": f"unix:{folder}/context.sock",
                "script": "true",
                **settings,
            }
        )
        turn = Grant(account="anna", kind="turn", work="")
        caller = Everyone(RoomCaller(name="orchestrator", grant=turn))
        async with (
            app(given, authenticator=caller),
            grpc.aio.insecure_channel(f"unix:{folder}/llm.sock") as channel,
        ):
            yield rpc.GenerationServiceStub(channel)


CALCULATE = pb.ToolSpec(
    name="calculate",
    description="Work out an arithmetic expression.",
    parameters_json_schema='{"type":"object","properties":{"expression":{"type":"string"}},"required":["expression"]}',
)


def start(text: str, *, model: str = "scripted", system: str = "Be brief.") -> pb.GenerateRequest:
    """The first frame of a run."""
    message = pb.WindowMessage(role=message_pb2.ROLE_USER, parts=[pb.WindowPart(text=text)])
    window = pb.Window(system=system, messages=[message])
    return pb.GenerateRequest(start=pb.StartGeneration(model=model, window=window, tools=[CALCULATE]))


def results(call: message_pb2.ToolCallPart, content: str) -> pb.GenerateRequest:
    """The frame that answers one call."""
    result = message_pb2.ToolResultPart(call_id=call.call_id, action=call.action, content=content)
    return pb.GenerateRequest(tool_results=pb.ToolResults(results=[result]))


async def frames(call: grpc.aio.StreamStreamCall) -> list[pb.GenerateResponse]:
    """Every frame until the stream ends."""
    return [frame async for frame in call]


def text(received: list[pb.GenerateResponse]) -> str:
    """The text of the frames."""
    return "".join(frame.text for frame in received)
