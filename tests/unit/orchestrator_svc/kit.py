"""The room's actions with every service configured, and a world outside in which all of them answer."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpcore

from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.egress.addresses import Address
from orchestrator_svc.egress.web import egress
from orchestrator_svc.settings import Settings
from orchestrator_svc.toolbox import toolbox
from orchestrator_svc.tools.places import gazetteer
from orchestrator_svc.tools.reference import encyclopedia
from orchestrator_svc.tools.tool import Output, Setting, Tool, ToolFailure
from orchestrator_svc.tools.units import known_units
from tests.unit.orchestrator_svc.egress.forms import PUBLIC
from tests.unit.orchestrator_svc.library import ARTICLES, CITIES, COUNTRIES, STATES
from tests.unit.orchestrator_svc.outside import Answer, Asked, Outside, outside, recorded

NOW_US = 1_800_000_000_000_000
HERE = "http://here"  # stands for the server's address in settings
NOWHERE = "no such thing"
ALL_PRIVATE = "search,weather,geocoding,nominatim,photon,overpass,osrm,valhalla"


def settings(**chosen: Any) -> Settings:
    """Settings of a room of which only the actions matter."""
    return Settings(**{"listen": "unix:/x", "llm": "unix:/y", "keys_dir": Path("/nowhere"), **chosen})


def everything(url: str) -> dict[str, Any]:
    """Settings that turn every action on, all of it at one server."""
    return {
        "private_services": ALL_PRIVATE,
        "search": "searxng",
        "search_url": f"{url}/searxng",
        "search_key": "a key",
        "fetch_pages": True,
        "reference_dir": books(),
        "overpass_url": f"{url}/overpass/interpreter",
        "photon_url": f"{url}/photon",
        "nominatim_url": f"{url}/nominatim",
        "valhalla_url": f"{url}/valhalla",
        "osrm_url": f"{url}/osrm",
        "weather": "open-meteo",
        "weather_url": f"{url}/weather",
        "geocoding_url": f"{url}/geocoding",
    }


def answer_all(there: Outside) -> None:
    """Let every service answer in its own form."""
    there.answers |= {
        "/overpass/interpreter": recorded("overpass.json"),
        "/photon/api": _unless_nowhere("photon.json", b'{"features":[],"type":"FeatureCollection"}'),
        "/photon/reverse": recorded("photon.json"),
        "/nominatim/search": _unless_nowhere("nominatim.json", b"[]"),
        "/valhalla/route": recorded("valhalla.json"),
        "/osrm/route/v1/driving/": recorded("osrm.json"),
        "/searxng/search": recorded("searxng.json"),
        "/brave/res/v1/web/search": recorded("brave.json"),
        "/tavily/search": recorded("tavily.json"),
        "/duckduckgo/html/": recorded("duckduckgo.html"),
        "/news": Answer(body=b"Moss grows slowly.", headers={"Content-Type": "text/plain"}),
        "/moss": recorded("page.html"),
        "/weather/v1/forecast": lambda asked: recorded(
            "open_meteo/now.json" if "current" in asked.query else "open_meteo/days.json"
        ),
        "/geocoding/v1/search": _unless_nowhere("open_meteo/search.json", b'{"generationtime_ms":0.3}'),
    }


def _unless_nowhere(name: str, nothing: bytes) -> Callable[[Asked], Answer]:
    """A recorded answer, but nothing for what is nowhere."""

    def answer(asked: Asked) -> Answer:
        nowhere = any(NOWHERE in value for value in asked.query.values())
        return Answer(body=nothing) if nowhere else recorded(name)

    return answer


@cache
def books() -> Path:
    """A folder with a small gazetteer and a small reference, written as the real ones are."""
    folder = Path(tempfile.mkdtemp(prefix="books"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with closing(sqlite3.connect(folder / gazetteer.BOOK)) as book:
        gazetteer.write(book, CITIES, COUNTRIES, STATES)
        book.commit()
    with closing(sqlite3.connect(folder / encyclopedia.BOOK)) as book:
        encyclopedia.write(book, ARTICLES)
        book.commit()
    return folder


@asynccontextmanager
async def kit(**chosen: Any) -> AsyncIterator[tuple[Catalogue, Outside]]:
    """The actions and the world they ask; `chosen` settings win over those that turn everything on."""
    async with outside() as there:
        answer_all(there)
        told = {**everything(there.url), **chosen}
        told = {
            key: each.replace(HERE, there.url) if isinstance(each, str) else each
            for key, each in told.items()
        }
        ways_out = partial(egress, resolve=_resolve, own=lambda address: False, sockets=Detour(there.url))
        async with toolbox(settings(**told), ways_out) as catalogue:
            yield catalogue, there


async def _resolve(host: str, port: int) -> Sequence[Address]:
    """Names of the public web are at one address; numbers are themselves."""
    with contextlib.suppress(ValueError):
        return (ip_address(host),)
    return (ip_address(PUBLIC),)


class Detour(httpcore.AsyncNetworkBackend):
    """Leads what goes to the public web to the server on this machine, as if it spoke TLS."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own parameter
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to this machine."""
        near = host == "127.0.0.1"
        return Plain(await self._sockets.connect_tcp("127.0.0.1", port if near else self._port))


class Plain(httpcore.AsyncNetworkStream):
    """A connection on which TLS is left out."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """What came."""
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Hang up."""
        await self._stream.aclose()

    async def start_tls(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Go on as before."""
        return self

    def get_extra_info(self, info: str) -> Any:
        """Whatever the socket says."""
        return None if info == "ssl_object" else self._stream.get_extra_info(info)


async def ran(
    tool: Tool[Any] | None, arguments: str = "{}", *, facts: Mapping[str, str] | None = None, **setting: Any
) -> Output | ToolFailure:
    """What an action answers."""
    assert tool is not None
    try:
        return await tool.run(arguments, Setting(now_us=NOW_US, facts=facts or {}, **setting))
    except ToolFailure as failure:
        return failure


def names() -> list[str]:
    """The names of all actions that run in this room."""

    async def read() -> list[str]:
        async with toolbox(settings()) as catalogue:
            return [tool.name for tool in catalogue if not tool.hosted]

    return asyncio.run(read())


NAMES = names()


@cache
def standing_tools() -> dict[str, Tool[Any]]:
    """Each action, all configured; each run has a world of its own, so that any loop may run it."""
    known_units()  # half a second, and much more on a busy machine: before any wait is bounded
    return {name: replace(tool, perform=_afresh(name)) for name, tool in asyncio.run(_read()).items()}


def _afresh(name: str) -> Callable[[Any, Setting], Awaitable[Output]]:
    async def perform(arguments: Any, setting: Setting) -> Output:
        async with kit() as (catalogue, _):
            tool = catalogue.get(name)
            assert tool is not None
            return await tool.perform(arguments, setting)

    return perform


async def _read() -> dict[str, Tool[Any]]:
    async with kit() as (catalogue, _):
        return {tool.name: tool for tool in catalogue}
