"""A client that opens streams and then takes nothing: `python -m tests.robustness.stalled ADDRESS SESSION COUNT`."""

from __future__ import annotations

import asyncio
import sys

import grpc

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.session.v1 import session_pb2

PER_CHANNEL = 50


async def stall(address: str, session: str, count: int) -> None:
    """Open so many streams of one session, say so, and hold them unread until the input ends."""
    request = chat_pb2.SubscribeEventsRequest(cursors=[session_pb2.SessionCursor(session_id=session)])
    held = []
    for number in range(count):
        if number % PER_CHANNEL == 0:
            channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        call = chat_pb2_grpc.ChatServiceStub(channel).SubscribeEvents(request)
        await call.read()
        held.append((channel, call))
    print("stalled", flush=True)  # noqa: T201 - the test waits for it
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(stall(sys.argv[1], sys.argv[2], int(sys.argv[3])))
