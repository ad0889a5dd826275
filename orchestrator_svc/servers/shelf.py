"""The servers of `mcp.toml`, each with a keeper of its own: one that is down or slow holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from chassis import telemetry
from chassis.clock import Clock
from chassis.tasks import Tasks
from orchestrator_svc.egress.failures import EgressFailure
from orchestrator_svc.errors import Reason
from orchestrator_svc.plugins.plugin import broken
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox
from orchestrator_svc.servers.configuration import ConfigurationBroken, Server, approved, servers
from orchestrator_svc.servers.session import CONNECT_SECONDS, ServerDown, Session, session
from orchestrator_svc.servers.wares import Ware
from orchestrator_svc.tools.tool import Lack, Origin, Output, Setting, Tool, ToolFailure

log = telemetry.logger(__name__)

RELIST_SECONDS = 60.0
_PAUSES = (1.0, 5.0, 15.0, 60.0)
Token = Callable[[str, Server], str]


class Keeper:
    """Holds one server's session open, and asks it every minute what it offers."""

    def __init__(self, name: str, server: Server, token: Token, sandbox: Sandbox | NoSandbox) -> None:
        self.name = name
        self.server = server
        self.wares: Sequence[Ware] = ()
        self.trouble = "It was not reached yet."
        self.news = True
        self.told = asyncio.Event()
        self._token = token
        self._sandbox = sandbox
        self._session: Session | None = None
        self._again = asyncio.Event()

    async def keep(self, clock: Clock) -> None:
        """Connect, stay connected, connect again."""
        tries = 0
        while True:
            self._again.clear()
            try:
                await self._hold(clock)
                tries = 0
            except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the SDK raise, it is down
                self._down(why(error))
            await clock.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    async def _hold(self, clock: Clock) -> None:
        token = self._token(self.name, self.server)
        deadline = asyncio.timeout(CONNECT_SECONDS)
        async with deadline, session(self.name, self.server, token, self._sandbox) as opened:
            await self._relist(opened)
            deadline.reschedule(None)
            self._session = opened
            try:
                while not self._again.is_set():
                    await self._pause(clock)
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await self._relist(opened)
            finally:
                self._session = None

    async def _pause(self, clock: Clock) -> None:
        """Wait for a minute, or until a call finds the connection broken."""
        waiting = (
            asyncio.ensure_future(clock.sleep(RELIST_SECONDS)),
            asyncio.ensure_future(self._again.wait()),
        )
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _relist(self, opened: Session) -> None:
        found = await opened.wares()
        self.news |= found != self.wares or bool(self.trouble)
        self.wares, self.trouble = found, ""
        self.told.set()

    def _down(self, why: str) -> None:
        self.news |= why != self.trouble
        self.trouble = why
        self.told.set()
        log.warning("server is down", server=self.name)

    def performing(self, ware: Ware) -> Callable[[dict[str, Any], Setting], Awaitable[Output]]:
        """What runs one of its tools."""

        async def perform(arguments: dict[str, Any], setting: Setting) -> Output:
            opened = self._session
            if opened is None:
                raise self._unreachable()
            try:
                return await opened.call(ware, arguments)
            except ToolFailure:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the SDK raise, it is down
                cause = error
            self._again.set()
            raise self._unreachable() from cause

        return perform

    def _unreachable(self) -> ToolFailure:
        return ToolFailure(f"{self.name} cannot be reached.", reason=Reason.PROVIDER_FAILED, retryable=True)


class ServerShelf:
    """The tools of all servers, and an entry for each server that is down."""

    def __init__(
        self, folder: Path, token: Token, sandbox: Sandbox | NoSandbox, tasks: Tasks, clock: Clock
    ) -> None:
        self._folder = folder
        self._token = token
        self._sandbox = sandbox
        self._tasks = tasks
        self._clock = clock
        self._keepers: dict[str, tuple[Keeper, asyncio.Task[None]]] = {}
        self._approved: Mapping[str, Mapping[str, str]] = {}
        self._trouble = ""

    async def changed(self) -> bool:
        """Read the operator's files again, and hear what the keepers found. Whether anything is otherwise now."""
        before = (self._approved, self._trouble)
        try:
            self._approved = approved(self._folder)
            wanted = servers(self._folder)
            self._trouble = ""
        except ConfigurationBroken as error:
            self._trouble = str(error)
            return before != (self._approved, self._trouble)
        moved = self._keep(wanted)
        news = [keeper for keeper, _ in self._keepers.values() if keeper.news]
        for keeper in news:
            keeper.news = False
        return moved or bool(news) or before != (self._approved, self._trouble)

    def _keep(self, wanted: Mapping[str, Server]) -> bool:
        gone = [name for name, (keeper, _) in self._keepers.items() if wanted.get(name) != keeper.server]
        for name in gone:
            self._keepers.pop(name)[1].cancel()
        fresh = [name for name in wanted if name not in self._keepers]
        for name in fresh:
            keeper = Keeper(name, wanted[name], self._token, self._sandbox)
            self._keepers[name] = (keeper, self._tasks.spawn(f"server {name}", keeper.keep(self._clock)))
        return bool(gone or fresh)

    def tools(self, taken: Collection[str]) -> Sequence[Tool[Any]]:
        """Every tool under the name `server__tool`; one that was not approved as it is now says so."""
        found: list[Tool[Any]] = []
        if self._trouble:
            found.append(_entry("mcp.toml", "mcp", self._trouble, Lack.FAILED))
        for keeper, _ in self._keepers.values():
            if keeper.trouble:
                found.append(_entry(f"mcp.{keeper.name}", keeper.name, keeper.trouble, Lack.FAILED))
            approvals = self._approved.get(keeper.name, {})
            found += [self._tool(keeper, ware, approvals.get(ware.own_name)) for ware in keeper.wares]
        return [tool for tool in found if tool.name not in taken]

    def _tool(self, keeper: Keeper, ware: Ware, approval: str | None) -> Tool[Any]:
        missing, lack = _missing(keeper.name, ware, approval)
        return Tool(
            name=ware.name,
            description=ware.description,
            arguments=dict,
            given_schema=ware.schema,
            perform=keeper.performing(ware),
            agent=keeper.name,
            effect=ware.effect,
            timeout=keeper.server.timeout,
            missing=missing,
            lack=lack,
            origin=Origin.MCP,
            foreign=True,
            outside=True,
        )


def _missing(server: str, ware: Ware, approval: str | None) -> tuple[str, Lack]:
    if ware.fault:
        return f"{ware.own_name} cannot be used: {ware.fault}.", Lack.FAILED
    if approval is None:
        return f"It was not approved yet: run `mesh mcp approve {server}`.", Lack.CHANGED
    if approval != ware.digest:
        return f"It changed since it was approved: run `mesh mcp approve {server}`.", Lack.CHANGED
    return "", Lack.NOT_CONFIGURED


def _entry(name: str, agent: str, trouble: str, lack: Lack) -> Tool[Any]:
    return broken(name, agent, trouble, lack=lack, origin=Origin.MCP)


def why(error: BaseException) -> str:
    """The first cause that says something to a person."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ServerDown() | EgressFailure() | ConfigurationBroken():
            return f"{str(error)[:1].upper()}{str(error)[1:]}."
        case httpx2.TransportError():
            return f"It cannot be reached: {error}."
        case TimeoutError():
            return "It does not answer in time."
        case _:
            return f"It cannot be used ({type(error).__name__})."
