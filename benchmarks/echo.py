"""A bare grpc.aio echo in a process of its own: the floor under every unary call."""

from __future__ import annotations

import asyncio
import sys

import grpc
import uvloop


async def _echo(request: bytes, context: object) -> bytes:
    return request


async def _main(address: str) -> None:
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    server.add_insecure_port(address)
    await server.start()
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
