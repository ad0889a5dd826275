"""A TCP proxy in the way: it cuts, closes, goes silent, slices, delays, as a test asks of the next connections."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

Mode = Literal["pass", "rst", "fin", "half_open", "slices", "latency", "silent", "slow_close", "corrupt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What happens to a connection. `after` counts bytes from the server; `seconds` is a delay or a silence."""

    mode: Mode = "pass"
    after: int = 0
    seconds: float = 0.0


class FaultProxy:
    """Listens on a free port of the loopback address and forwards to `target`, as well as `fault` lets it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._healed = asyncio.Event()
        self.fault = Fault()
        self.port = 0
        self.connections = 0
        self.cuts = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultProxy]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._healed.set()
            server.close()
            self.cut_all("fin")

    def heal(self) -> None:
        """Let the next connections pass, and close those that went silent."""
        self.fault = Fault()
        self._healed.set()
        self._healed = asyncio.Event()

    def cut_all(self, mode: Literal["rst", "fin"]) -> None:
        """End every open connection now."""
        for writer in list(self._open):
            self._end(writer, reset=mode == "rst")

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self.fault
        if fault.mode == "silent":  # accepted, and then nothing
            await self._healed.wait()
            return self._end(writer, reset=False)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return self._end(writer, reset=False)
        self._open |= {writer, up_writer}
        up = asyncio.ensure_future(_pump(reader, up_writer))
        try:
            await self._down(up_reader, writer, fault)
        except (ConnectionError, OSError):
            pass
        finally:
            up.cancel()
            self._end(writer, reset=False)
            self._end(up_writer, reset=False)
        return None

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        seen = 0
        while piece := await reader.read(16 * 1024):
            seen += len(piece)
            if fault.seconds and fault.mode == "latency":
                await asyncio.sleep(fault.seconds * random.random())
            if fault.mode == "slices":
                for at in range(len(piece)):
                    writer.write(piece[at : at + 1])
                    await writer.drain()
                continue
            if fault.mode in ("rst", "fin", "half_open", "slow_close") and seen > fault.after:
                self.cuts += 1
                writer.write(piece[: max(0, len(piece) - (seen - fault.after))])
                return await self._break(writer, fault)
            if fault.mode == "corrupt" and seen > fault.after:
                piece = bytes([piece[0] ^ 0xFF]) + piece[1:]
            writer.write(piece)
            await writer.drain()
        return None

    async def _break(self, writer: asyncio.StreamWriter, fault: Fault) -> None:
        match fault.mode:
            case "rst":
                self._end(writer, reset=True)
            case "half_open":  # neither reads nor writes any more, and says nothing of it
                await asyncio.wait(
                    {asyncio.ensure_future(self._healed.wait())}, timeout=fault.seconds or None
                )
            case "slow_close":
                await asyncio.sleep(fault.seconds)
            case _:
                self._end(writer, reset=False)

    def _end(self, writer: asyncio.StreamWriter, *, reset: bool) -> None:
        self._open.discard(writer)
        if reset and (raw := writer.get_extra_info("socket")) is not None and not writer.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()
    except (ConnectionError, OSError):
        pass
    finally:
        writer.close()
