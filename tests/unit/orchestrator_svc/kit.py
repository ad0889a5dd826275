"""The room's actions with every service configured, and a world outside in which all of them answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.settings import Settings
from orchestrator_svc.toolbox import toolbox
from orchestrator_svc.tools.tool import Output, Setting, Tool, ToolFailure
from tests.unit.orchestrator_svc.outside import Answer, Outside, outside, recorded

NOW_US = 1_800_000_000_000_000
NOWHERE = "no such thing"
ALL_PRIVATE = "search,weather,geocoding,nominatim,photon,overpass,osrm,valhalla"


def settings(**chosen: Any) -> Settings:
    """Settings of a room of which only the actions matter."""
    return Settings(**{"listen": "unix:/x", "llm": "unix:/y", "keys_dir": Path("/nowhere"), **chosen})


def everything(url: str) -> dict[str, Any]:
    """Settings that turn every action on, all of it at one server."""
    return {
        "private_services": ALL_PRIVATE,
        "weather": "open-meteo",
        "weather_url": f"{url}/weather",
        "geocoding_url": f"{url}/geocoding",
    }


def answer_all(there: Outside) -> None:
    """Let every service answer in its own form."""
    there.answers |= {
        "/weather/v1/forecast": lambda asked: recorded(
            "open_meteo/now.json" if "current" in asked.query else "open_meteo/days.json"
        ),
        "/geocoding/v1/search": lambda asked: (
            Answer(body=b'{"generationtime_ms":0.3}')
            if NOWHERE in asked.query["name"]
            else recorded("open_meteo/search.json")
        ),
    }


@asynccontextmanager
async def kit(**chosen: Any) -> AsyncIterator[tuple[Catalogue, Outside]]:
    """The actions and the world they ask; `chosen` settings win over those that turn everything on."""
    async with outside() as there, toolbox(settings(**{**everything(there.url), **chosen})) as catalogue:
        answer_all(there)
        yield catalogue, there


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
    """The names of all actions."""

    async def read() -> list[str]:
        async with toolbox(settings()) as catalogue:
            return [tool.name for tool in catalogue]

    return asyncio.run(read())


NAMES = names()


@cache
def standing_tools() -> dict[str, Tool[Any]]:
    """Each action, all configured; each run has a world of its own, so that any loop may run it."""
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
