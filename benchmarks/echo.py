"""A bare grpc.aio server in a process of its own: the floor under every call.

`Echo` answers what it is given. `Follow` says it at once and then every `EVERY` seconds, as a quiet subscription does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import uvloop

EVERY = 15.0


async def _echo(request: bytes, context: object) -> bytes:
    return request


async def _follow(request: bytes, context: object) -> AsyncIterator[bytes]:
    while True:
        yield request
        await asyncio.sleep(EVERY)


async def _main(address: str) -> None:
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Follow": grpc.unary_stream_rpc_method_handler(_follow),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    server.add_insecure_port(address)
    await server.start()
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
