"""Rows of signing in: how many a second, and whether an answer's time tells an unknown person from a wrong password."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid

import grpc

from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from benchmarks.rows import MS, Row
from benchmarks.world import Client

PASSWORD = "quartz teapots hum at noon"
AT_ONCE = 2


async def rows(here: Client, logins: int = 60, refusals: int = 80) -> list[Row]:
    """Logins of one person on context_svc's socket; then refusals of both kinds, taking turns.

    Needs a mesh that lets anybody register and throttles nobody.
    """
    async with grpc.aio.insecure_channel(here.mesh.context_socket) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        email = f"{uuid.uuid4()}@example.org"
        await stub.Register(
            identity_pb2.RegisterRequest(
                request_id=str(uuid.uuid4()),
                email=email,
                display_name="Bench",
                password=PASSWORD,
                device=device(),
            )
        )

        async def sign_in(count: int) -> None:
            for _ in range(count):
                await stub.Login(identity_pb2.LoginRequest(email=email, password=PASSWORD, device=device()))

        began = time.perf_counter()
        await asyncio.gather(*(sign_in(logins // AT_ONCE) for _ in range(AT_ONCE)))
        a_second = logins / (time.perf_counter() - began)
        wrong, unknown = [], []
        for _ in range(refusals):
            wrong.append(await _refused(stub, email, "not the password at all"))
            unknown.append(await _refused(stub, f"nobody-{email}", "not the password at all"))
    ratio = statistics.median(unknown) / statistics.median(wrong)
    return [
        Row(
            name="logins a second",
            value=a_second,
            unit="1/s",
            target="",
            met=None,
            detail=f"{AT_ONCE} at once",
        ),
        Row(
            name="refusing an unknown person over a wrong password",
            value=ratio,
            unit="x",
            target="0.9 to 1.1 x",
            met=0.9 <= ratio <= 1.1,
            detail=f"medians of {refusals}: {statistics.median(wrong) * MS:.1f} ms with a wrong password",
        ),
    ]


async def _refused(stub: identity_pb2_grpc.IdentityServiceStub, email: str, password: str) -> float:
    began = time.perf_counter()
    try:
        await stub.Login(identity_pb2.LoginRequest(email=email, password=password, device=device()))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return time.perf_counter() - began
        raise
    raise RuntimeError("a wrong password was taken")


def device() -> identity_pb2.DeviceInfo:
    """A new device that signs in."""
    return identity_pb2.DeviceInfo(
        device_id=str(uuid.uuid4()),
        name="Bench",
        platform=identity_pb2.DEVICE_PLATFORM_TERMINAL,
        app_version="1",
    )
