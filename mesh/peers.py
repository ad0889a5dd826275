"""The only module of this room that dials another: health probes, and later the contract's own calls."""

import asyncio
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from mesh.rooms import Admin, Health, Readiness

_PROBE_TIMEOUT = 1.0  # seconds


async def serving(readiness: Readiness) -> bool:
    """Answer whether the room serves now. Never raises for a room that is away, silent or wrong."""
    match readiness:
        case Health(socket=socket):
            return socket.exists() and await _health(socket)
        case Admin(socket=socket):
            return socket.exists() and await _admin_ready(socket)


async def _health(socket: Path) -> bool:
    try:
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(), timeout=_PROBE_TIMEOUT)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _admin_ready(socket: Path) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            return b" 200 " in await _status_line(socket)
    except (OSError, TimeoutError):
        return False


async def _status_line(socket: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(b"GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()
