"""Rooms on a network: both sides show who they are, or nothing is said at all."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assistant.identity.v1 import identity_pb2
from assistant.identity.v1.identity_pb2_grpc import IdentityServiceStub
from chassis.auth import RoomIdentity
from chassis.certificates import Certificates
from chassis.clock import SystemClock
from chassis.dial import open_channel
from chassis.keys import KeyRefused
from chassis.serve import AddressUnsafe
from chassis.tokens import Signer
from context_svc.app import open_app
from context_svc.settings import ContextSettings
from mesh import authority
from tests.interaction.trust.rooms import ROOMS, running

pytestmark = [pytest.mark.requirement("SAFE-1"), pytest.mark.requirement("EDGE-4")]


def free_ports(*names: str) -> dict[str, int]:
    with ExitStack() as stack:
        probes = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


async def asked(port: int, certificates: Certificates | None, callee: str = "context") -> str:
    """What comes of asking context_svc for what it tells everybody: the gRPC code."""
    options = [("grpc.ssl_target_name_override", callee), ("grpc.use_local_subchannel_pool", 1)]
    address = f"localhost:{port}"
    if certificates is None:
        channel = grpc.aio.insecure_channel(address, options[1:])
    else:
        channel = grpc.aio.secure_channel(address, certificates.for_channel(), options)
    async with channel:
        stub: Any = IdentityServiceStub(channel)
        try:
            await stub.GetServerInfo(identity_pb2.GetServerInfoRequest(), timeout=3)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


async def test_a_turn_goes_through_four_rooms_on_a_network_and_strangers_hear_nothing(
    tmp_path: Path, socket_dir: Path
) -> None:
    ports = free_ports(*ROOMS)
    async with running(tmp_path, socket_dir, ports=ports) as mesh:
        anna = await mesh.register()
        events = await mesh.say(anna, await mesh.session(anna), "hello")
        assert events[-1].HasField("turn_finished")

        tls, elsewhere = mesh.keys / "tls", tmp_path / "elsewhere"
        authority.ensure(elsewhere)
        ours, theirs = Certificates.read(tls, "llm"), Certificates.read(elsewhere, "llm")
        port = ports["context"]
        assert await asked(port, ours) == "OK"
        posing = Certificates(authority=ours.authority, chain=theirs.chain, key=theirs.key)
        nameless = grpc.ssl_channel_credentials(ours.authority)
        assert await asked(port, posing) == "UNAVAILABLE"  # a stranger's certificate
        assert await asked(port, theirs) == "UNAVAILABLE"  # who trusts another authority
        assert await asked(port, ours, callee="llm") == "UNAVAILABLE"  # this is not llm_svc
        assert await asked(port, None) == "UNAVAILABLE"  # no TLS at all
        async with grpc.aio.secure_channel(
            f"localhost:{port}", nameless, [("grpc.ssl_target_name_override", "context")]
        ) as channel:
            stub: Any = IdentityServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetServerInfo(identity_pb2.GetServerInfoRequest(), timeout=3)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # no certificate


async def test_a_room_neither_serves_nor_dials_on_a_network_without_certificates(
    tmp_path: Path, socket_dir: Path
) -> None:
    settings = ContextSettings.model_validate(
        {
            "listen": f"127.0.0.1:{free_ports('context')['context']}",
            "operator_listen": f"unix:{socket_dir}/o.sock",
            "orchestrator": f"unix:{socket_dir}/a.sock",
            "media": f"unix:{socket_dir}/m.sock",
            "data_dir": tmp_path / "data",
            "keys_dir": tmp_path / "keys",
        }
    )
    with pytest.raises(AddressUnsafe):
        async with open_app(settings):
            pass
    key = Ed25519PrivateKey.generate()
    room = RoomIdentity("context", Signer(key, "room:context", "room:context"), SystemClock())
    with pytest.raises(KeyRefused):
        open_channel("localhost:1", identity=room, callee="llm")


async def test_a_socket_in_a_folder_that_others_can_enter_is_refused(
    tmp_path: Path, socket_dir: Path
) -> None:
    async with running(tmp_path, socket_dir) as mesh:
        for path in mesh.sockets.glob("*.sock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.chmod(socket_dir, 0o750)  # noqa: PTH101 - at once
    with pytest.raises(AddressUnsafe, match="chmod 700"):
        async with running(tmp_path, socket_dir):
            pass
