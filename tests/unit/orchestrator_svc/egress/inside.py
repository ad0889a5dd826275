"""Run inside a network of its own (`unshare -rn`): every forbidden address is a canary that counts its visitors.

Prints one line of JSON: how often the forms and redirects reached a canary (must be 0), and two controls: a public page
behind the guard, and the same forms without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable

from orchestrator_svc.egress.addresses import Address, is_public
from orchestrator_svc.egress.failures import EgressFailure
from orchestrator_svc.egress.web import Bounds, Egress, egress
from tests.unit.orchestrator_svc.egress.forms import (
    FORMS,
    PUBLIC,
    PUBLIC_6,
    REDIRECTED,
    STATUSES,
    HostileResolver,
)

PORTS = (22, 25, 80, 443, 5432, 6379, 8080, 8443, 50051)
BOUND = (
    *("10.0.0.5", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255"),
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "100.64.0.1", "192.0.0.1", "192.0.2.1"),
    *("192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", PUBLIC),
    *("fe80::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fec0::1", "3fff::1", "5f00::1", "2002:7f00:1::"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "2001:db8::1", "2001::1", "100::1", "4000::1", PUBLIC_6),
)
BOUNDS = Bounds(seconds=3.0, connect_seconds=1.0)


class Canaries:
    """Counts connections to any address of this network but the public ones, and answers all of them."""

    def __init__(self) -> None:
        self.visited: list[str] = []
        self.public = 0
        self.answer = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One visitor."""
        address, port = writer.get_extra_info("sockname")[:2]
        if address.removeprefix("::ffff:") in (PUBLIC, PUBLIC_6) and port in (80, 443):
            self.public += 1
        else:
            self.visited.append(f"{address}:{port}")
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer or b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()


async def reached(canaries: Canaries, out: Egress) -> int:
    """How many visits the forms and the redirects brought to canaries."""
    web = await out.web()
    canaries.visited.clear()
    for form in (*FORMS, "http://rebinding.attacker.org/", "http://rebinding.attacker.org:8080/"):
        with contextlib.suppress(EgressFailure):
            await web.page(form, accept="*/*", bounds=BOUNDS)
    for led in REDIRECTED:
        for status in STATUSES:
            lines = (
                f"HTTP/1.1 {status} X\r\nLocation: {led}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            canaries.answer = lines.encode()
            with contextlib.suppress(EgressFailure):
                await web.page("http://good.org/", accept="*/*", bounds=BOUNDS)
    canaries.answer = b""
    return len(canaries.visited)


async def main() -> None:
    """Bind, ask, tell."""
    _ip("link", "set", "lo", "up")
    for address in BOUND:
        length, *more = ("128", "nodad") if ":" in address else ("32",)
        _ip("address", "add", f"{address}/{length}", "dev", "lo", *more)
    canaries = Canaries()
    for port in PORTS:
        await asyncio.start_server(canaries.serve, "0.0.0.0", port)
        await asyncio.start_server(canaries.serve, "::", port)

    def nobody(address: Address) -> bool:
        return False

    async with egress(resolve=HostileResolver(), own=nobody) as out:
        guarded, public = await reached(canaries, out), canaries.public
    async with egress(resolve=HostileResolver()) as out:
        canaries.public = 0
        with contextlib.suppress(EgressFailure):
            await (await out.web()).page("http://good.org/", accept="*/*", bounds=BOUNDS)
        own = canaries.public
    open_ = await _without_the_guard(canaries, nobody)
    sys.stdout.write(json.dumps({"guarded": guarded, "public": public, "own": own, "open": open_}))


async def _without_the_guard(canaries: Canaries, own: Callable[[Address], bool]) -> int:
    from orchestrator_svc.egress import web

    vars(web)["is_public"] = lambda address: True
    try:
        async with egress(resolve=HostileResolver(), own=own) as out:
            return await reached(canaries, out)
    finally:
        vars(web)["is_public"] = is_public


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
