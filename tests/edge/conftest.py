"""One Envoy and its rooms for the session, tokens, and a client of each door."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.keys import KeySet, to_jwk
from chassis.testing import socket_directory
from chassis.tokens import Signer
from tests.edge import proxy
from tests.edge.calls import WEB
from tests.edge.rooms import Seen, rooms

KEY_ID = "key-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Makes access tokens as context_svc does, and wrong ones."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    key_id: str = KEY_ID
    issuer: str = "assistant.mesh"

    def make(self, **claims: object) -> str:
        """A token, good unless `claims` say otherwise."""
        now = int(time.time())
        whole = {
            "sub": "ann",
            "sid": "d1",
            "aud": "mesh",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "scope": "",
        }
        return Signer(self.key, self.key_id, self.issuer).sign(whole | claims)

    def jwks(self) -> list[dict[str, str]]:
        """The public half."""
        return [to_jwk(self.key_id, self.key.public_key())]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """The edge, what came through it, and who may sign."""

    edge: proxy.Edge
    seen: Seen
    tokens: Tokens
    folder: Path

    def bearer(self, token: str | None = None) -> dict[str, str]:
        """The headers of a signed-in caller."""
        return {"authorization": f"Bearer {token or self.tokens.make()}"}


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """The edge in front of three rooms."""
    tokens = Tokens()
    with socket_directory() as folder:
        keys = folder / "keys"
        keys.mkdir()
        (keys / "users.jwks").write_text(json.dumps({"keys": tokens.jwks()}))
        descriptors = proxy.DESCRIPTORS.read_bytes()
        values = proxy.local_values(folder, proxy.free_port())
        with rooms(folder, KeySet(tokens.jwks()), descriptors) as seen, proxy.envoy(folder, values) as edge:
            yield Mesh(edge=edge, seen=seen, tokens=tokens, folder=folder)


@pytest.fixture
async def http(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    """A JSON client."""
    async with httpx.AsyncClient(base_url=mesh.edge.url, timeout=10) as client:
        yield client


@pytest.fixture
async def channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """A native gRPC client."""
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.edge.port}", options) as opened:
        yield opened


@pytest.fixture(scope="session")
def web_client() -> None:
    """The grpc-web client, installed from its lock file and generated from the contract."""
    if not (WEB / "node_modules" / ".package-lock.json").exists():
        _run("npm", "ci", "--ignore-scripts")
    contract = hashlib.sha256(proxy.DESCRIPTORS.read_bytes()).hexdigest()
    stamp = WEB / "gen" / "contract"
    if not stamp.exists() or stamp.read_text() != contract:  # generating takes 10 s
        _run(str(Path(sys.executable).parent / "buf"), "generate")
        stamp.write_text(contract)


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
