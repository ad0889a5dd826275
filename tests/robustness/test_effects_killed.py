"""The process is killed at every point around an effect: the world sees it at most once, and the log says the truth."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis import engines, ids
from chassis.dial import streaming
from chassis.settings import environment
from chassis.testing import socket_directory
from context_svc.schema import MIGRATIONS
from tests.interaction.context_svc.agent import approve
from tests.interaction.context_svc.conversation_room import ACCOUNT, _accounts, _new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
POINTS = ("approval_requested", "answered", "tool_started", "written", "tool_progress", "tool_finished")
OVER = ("turn_finished", "turn_failed", "turn_cancelled")
ROUNDS = {False: 1, True: 12}


class Killed:
    """One turn with an effect, and the process that runs it."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self._database = f"sqlite://{folder}/t.db"
        self._sockets = sockets
        self.world = folder / "world.txt"
        self.session = ids.uuid()

    async def prepare(self) -> None:
        async with engines.connect(self._database, schema="") as store:
            await store.migrate(MIGRATIONS)
            await store.write("account", _accounts)
            await store.write(self.session, lambda: _new_session(self.session, ACCOUNT))

    @property
    def effects(self) -> int:
        """How often it happened in the world."""
        return len(self.world.read_text().splitlines()) if self.world.exists() else 0

    @asynccontextmanager
    async def process(self, *again: str) -> AsyncIterator[chat_pb2_grpc.ChatServiceStub]:
        """The process, until it is killed at the end of the block."""
        socket = self._sockets / f"{ids.uuid()[:8]}.sock"
        words = (self._database, str(socket), str(self.world), *again)
        surroundings = {**environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"}
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.robustness.effect_process", *words),
            cwd=ROOT,
            env=surroundings,
            stdout=asyncio.subprocess.PIPE,
        )
        assert running.stdout is not None
        try:
            async with asyncio.timeout(60):
                assert await running.stdout.readline() == b"ready\n"
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"unix:{socket}", options) as channel:
                yield chat_pb2_grpc.ChatServiceStub(channel)
        finally:
            with suppress(ProcessLookupError):
                running.kill()
            await running.wait()

    async def follow(self, stub: chat_pb2_grpc.ChatServiceStub) -> AsyncIterator[chat_pb2.ChatEvent]:
        """The session's log from its beginning."""
        cursor = session_pb2.SessionCursor(session_id=self.session)
        request = chat_pb2.SubscribeEventsRequest(cursors=[cursor])
        async with streaming(stub.SubscribeEvents(request, timeout=60)) as call:
            async for frame in call:
                if frame.HasField("event"):
                    yield frame.event

    async def reach(self, stub: chat_pb2_grpc.ChatServiceStub, point: str) -> None:
        """Send, approve, and return at the point."""
        parts = [message_pb2.Part(text="write hello")]
        message = chat_pb2.NewMessage(session_id=self.session, client_message_id=ids.uuid(), parts=parts)
        [_ async for _ in stub.SendMessage(chat_pb2.SendMessageRequest(message=message), timeout=30)]
        asked: chat_pb2.ChatEvent | None = None
        async for event in self.follow(stub):
            kind = event.WhichOneof("event")
            if kind == "approval_requested":
                asked = event
            if kind == "turn_suspended" and asked is not None and point != "approval_requested":
                await stub.RespondToTurn(approve(self.session, asked), timeout=30)
                if point == "answered":
                    return
            if kind == "tool_started" and point == "written":
                while not self.effects:  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(0.002)
                return
            if kind == ("turn_suspended" if point == "approval_requested" else point):
                return

    async def settle(self, stub: chat_pb2_grpc.ChatServiceStub) -> list[chat_pb2.ChatEvent]:
        """Go on after the kill, approving what still waits; the whole log of the turn."""
        log: list[chat_pb2.ChatEvent] = []
        async for event in self.follow(stub):
            log.append(event)
            kind = event.WhichOneof("event")
            if kind in OVER:
                return log
            if kind == "turn_suspended":
                asked = next(each for each in reversed(log) if each.HasField("approval_requested"))
                with suppress(grpc.aio.AioRpcError):  # it was answered before the kill
                    await stub.RespondToTurn(approve(self.session, asked), timeout=30)
        return log


@pytest.mark.requirement("AGT-5")
async def test_wherever_the_process_is_killed_the_world_sees_an_effect_at_most_once(
    tmp_path: Path, long_loops: bool
) -> None:
    chance, counts = random.Random(5), Counter[tuple[str, int]]()
    with socket_directory() as sockets:
        for number in range(ROUNDS[long_loops]):
            for point in POINTS:
                folder = tmp_path / f"{number}-{point}"
                folder.mkdir()
                killed = Killed(folder, sockets)
                await killed.prepare()
                async with killed.process() as stub:
                    await killed.reach(stub, point)
                    if number:
                        await asyncio.sleep(chance.random() * 0.1)
                before = killed.effects
                async with killed.process("again") as stub:
                    log = await killed.settle(stub)
                    more = [event async for event in _rest(killed, stub, len(log))]
                assert killed.effects <= 1, point
                _tells_the_truth(log, before, killed.effects)
                assert not more
                counts[str(log[-1].WhichOneof("event")), killed.effects] += 1
    print(f"\n{sum(counts.values())} kills around an effect: {dict(counts)}")  # noqa: T201 - its result


async def _rest(
    killed: Killed, stub: chat_pb2_grpc.ChatServiceStub, after: int
) -> AsyncIterator[chat_pb2.ChatEvent]:
    page = await stub.ListEvents(
        chat_pb2.ListEventsRequest(session_id=killed.session, after_sequence=after, page_size=100), timeout=30
    )
    for event in page.events:
        if event.turn_id:
            yield event


def _tells_the_truth(log: list[chat_pb2.ChatEvent], before: int, effects: int) -> None:
    """What the turn says of the effect is what the world saw."""
    last = log[-1]
    outcomes = [event.tool_finished.outcome for event in log if event.HasField("tool_finished")]
    if last.HasField("turn_finished"):
        assert effects == 1
        assert outcomes == [chat_pb2.TOOL_OUTCOME_DONE]
        return
    failed = last.turn_failed
    assert effects == before  # what was in doubt is not run again
    if failed.reason == error_pb2.ERROR_REASON_EFFECT_IN_DOUBT:
        assert outcomes == [chat_pb2.TOOL_OUTCOME_IN_DOUBT]
    else:
        assert failed.reason == error_pb2.ERROR_REASON_OWNER_LOST
        assert (effects == 1) == (chat_pb2.TOOL_OUTCOME_DONE in outcomes)
