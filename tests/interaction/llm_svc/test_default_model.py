"""The default built-in model through the room's own door: it uses the calculator and answers with its result."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.generation.v1 import generation_pb2 as pb
from tests.interaction.llm_svc.room import results, room, start, text
from tests.weights import weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.requirement("LLM-7"),
    pytest.mark.timeout(400),
]


async def test_it_asks_for_the_calculator_and_answers_with_391(tmp_path: Path) -> None:
    named = "qwen2.5-coder-1.5b-instruct"
    async with room(tmp_path, script="", model_file=weights("default"), model_name=named) as stub:
        call = stub.Generate()
        await call.write(start("What is 17*23? Use the calculator.", model=""))
        received: list[pb.GenerateResponse] = []
        async for frame in call:
            received.append(frame)
            if frame.HasField("tool_call"):
                asked = frame.tool_call
            if frame.HasField("step_finished") and not text(received):
                await call.write(results(asked, "391"))
    assert (asked.action, asked.arguments_json) == ("calculate", '{"expression":"17*23"}')
    assert "391" in text(received)
    assert [frame.started.model for frame in received if frame.HasField("started")] == [named]
