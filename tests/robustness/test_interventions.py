"""Turns that are stopped, left, cleared, ended or deleted at a random moment: each ends once, nothing is left over."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.status import from_rpc_error
from chassis.testing import SOON, eventually, socket_directory
from tests.interaction.trust.rooms import Mesh, Person, running
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TURNS = {False: 120, True: 2_000}
AT_ONCE = 8
SAID = (
    "hello",
    "What is 17*23?",
    "What time is it in Asia/Tokyo?",
    "stream 50 tokens 5 ms apart",
    "stream 400 tokens",
    "wait 60 ms",
    "think first",
    "fail with PROVIDER_TIMEOUT after 3 tokens",
)
MOMENTS = (0.005, 0.05, 0.2)  # seconds; a moment is at random within one of them
ENDS = {"turn_finished", "turn_failed", "turn_cancelled"}
EXPECTED = {error_pb2.ERROR_REASON_UNSPECIFIED, error_pb2.ERROR_REASON_PARTIAL}


@pytest.mark.requirement("CHAT-8", "CHAT-10", "SES-1")
async def test_turns_that_are_interfered_with_at_any_moment_end_once_and_leave_nothing(
    tmp_path: Path, long_loops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with socket_directory() as sockets:
        async with running(tmp_path, sockets) as mesh:
            anna = await mesh.register()
            loop = Loop(mesh, anna, random.Random(23))
            await loop.undisturbed()
            before = left_over()
            await loop.run(TURNS[long_loops])
            await eventually(lambda: not left_over() - before)
    crashed = [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "ERROR"
        and not record.name.startswith("grpc")  # it calls a caller who left an error
    ]
    counted = ", ".join(f"{how} {many}" for how, many in sorted(loop.ended.items()))
    tell("turns interfered with at a random moment", counted, len(loop.faults) + len(crashed))
    assert not loop.faults, "\n".join(loop.faults[:20])
    assert not crashed


def left_over() -> Counter[str]:
    """The tasks of the rooms by what they do, and the open files of the process."""
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    tasks["open files"] = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    return tasks


class Loop:
    """Says something, does something to it a moment later, and looks at what became of it."""

    def __init__(self, mesh: Mesh, person: Person, chance: random.Random) -> None:
        self._mesh = mesh
        self._person = person
        self._chance = chance
        self.faults: list[str] = []
        self.ended: Counter[str] = Counter()

    async def undisturbed(self) -> None:
        """A turn to its end."""
        await self._mesh.say(self._person, await self._mesh.session(self._person), "hello")

    async def run(self, many: int) -> None:
        """So many turns, some at once, each in a session of its own."""
        numbers = iter(range(many))

        async def one_after_the_other() -> None:
            for number in numbers:
                text, how = self._chance.choice(SAID), self._chance.choice(list(self._deeds()))
                moment = self._chance.uniform(0, self._chance.choice(MOMENTS))
                fault = await self._one(text, how, moment)
                if fault:
                    self.faults.append(f"{number} {text!r} {how} after {moment:.4f} s: {fault}")

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))

    def _deeds(self) -> Mapping[str, Any]:
        return {
            "stop": self._stop,
            "stop twice": self._stop_twice,
            "leave": None,
            "clear": self._clear,
            "delete": self._delete,
            "end": self._end,
        }

    async def _one(self, text: str, how: str, moment: float) -> str:
        session = await self._mesh.session(self._person)
        message = chat_pb2.NewMessage(
            session_id=session, client_message_id=ids.uuid(), parts=[message_pb2.Part(text=text)]
        )
        call = self._mesh.chat.SendMessage(
            chat_pb2.SendMessageRequest(message=message, follow=True), metadata=self._person.metadata
        )
        frames = aiter(call)
        accepted = (await anext(frames)).event
        deed = self._deeds()[how]
        reading = asyncio.ensure_future(_last(frames))
        await asyncio.sleep(moment)
        if deed is None:
            call.cancel()
        else:
            try:
                await deed(session, accepted.turn_id)
            except grpc.aio.AioRpcError as error:
                if (reason := from_rpc_error(error).reason) != "TURN_OVER":
                    return f"refused with {reason}"
        async with asyncio.timeout(SOON.total_seconds()):
            last = await reading
        self.ended[f"{how}: {last}"] += 1
        if last not in ({*ENDS, "closed"} if deed else {*ENDS, "left"}):
            return f"its stream ended with {last}"
        if how == "delete":
            return ""
        if how != "clear" and (wrong := await self._wrong_in_log(session)):
            return wrong
        if how == "end":
            return ""
        events = await self._mesh.say(self._person, session, "hello")
        after = events[-1].WhichOneof("event")
        return "" if after == "turn_finished" else f"the next turn ended with {after}"

    async def _wrong_in_log(self, session: str) -> str:
        """What is wrong with the session's log, once its one turn is over."""
        request = chat_pb2.ListEventsRequest(session_id=session)
        kinds: list[str] = []
        async with asyncio.timeout(SOON.total_seconds()):
            while not ENDS & set(kinds):
                page = await self._mesh.chat.ListEvents(request, metadata=self._person.metadata)
                of_turn = [event for event in page.events if event.turn_id]
                kinds = [str(event.WhichOneof("event")) for event in of_turn]
        ends = [kind for kind in kinds if kind in ENDS]
        if len(ends) != 1 or kinds[-1] != ends[0]:
            return f"its log is {kinds}"
        reason = of_turn[-1].turn_failed.reason
        return "" if reason in EXPECTED else f"it failed as {error_pb2.ErrorReason.Name(reason)}"

    async def _stop(self, session: str, turn: str) -> None:
        request = chat_pb2.CancelTurnRequest(session_id=session, turn_id=turn, request_id=ids.uuid())
        await self._mesh.chat.CancelTurn(request, metadata=self._person.metadata)

    async def _stop_twice(self, session: str, turn: str) -> None:
        await asyncio.gather(self._stop(session, turn), self._stop(session, turn))

    async def _clear(self, session: str, turn: str) -> None:
        request = chat_pb2.ClearMessagesRequest(session_id=session, request_id=ids.uuid())
        await self._mesh.chat.ClearMessages(request, metadata=self._person.metadata)

    async def _delete(self, session: str, turn: str) -> None:
        request = session_pb2.DeleteSessionRequest(session_id=session)
        await self._mesh.sessions.DeleteSession(request, metadata=self._person.metadata)

    async def _end(self, session: str, turn: str) -> None:
        request = session_pb2.EndSessionRequest(session_id=session)
        await self._mesh.sessions.EndSession(request, metadata=self._person.metadata)


async def _last(frames: AsyncIterator[Any]) -> str:
    """The last thing a stream told: an event of its turn, that it was closed, or why it broke."""
    told = ""
    try:
        async for frame in frames:
            told = str(
                frame.event.WhichOneof("event") if frame.HasField("event") else frame.WhichOneof("frame")
            )
    except asyncio.CancelledError:
        return "left"
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason or error.code().name
    return told
