"""The actions of this room, put together from what the operator configured."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing
from typing import Any, assert_never

from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.egress.web import Egress, Site, egress
from orchestrator_svc.settings import Settings
from orchestrator_svc.tools.calculator import CALCULATOR
from orchestrator_svc.tools.clock import CLOCK
from orchestrator_svc.tools.find_tools import FIND_TOOLS
from orchestrator_svc.tools.hosted import HOSTED
from orchestrator_svc.tools.places import gazetteer
from orchestrator_svc.tools.places.directions_tool import directions_tool
from orchestrator_svc.tools.places.found import Places
from orchestrator_svc.tools.places.gazetteer import Gazetteer
from orchestrator_svc.tools.places.nominatim import Nominatim
from orchestrator_svc.tools.places.osrm import Osrm
from orchestrator_svc.tools.places.overpass import Overpass
from orchestrator_svc.tools.places.photon import Photon
from orchestrator_svc.tools.places.route import Mode, Router
from orchestrator_svc.tools.places.search_tool import location_tool
from orchestrator_svc.tools.places.spot import Finder
from orchestrator_svc.tools.places.valhalla import Valhalla
from orchestrator_svc.tools.reference import encyclopedia
from orchestrator_svc.tools.reference.encyclopedia import Encyclopedia
from orchestrator_svc.tools.reference.tool import knowledge_tool
from orchestrator_svc.tools.search import brave, duckduckgo, tavily
from orchestrator_svc.tools.search.brave import Brave
from orchestrator_svc.tools.search.duckduckgo import DuckDuckGo
from orchestrator_svc.tools.search.hits import Search
from orchestrator_svc.tools.search.page import page_tool
from orchestrator_svc.tools.search.searxng import Searxng
from orchestrator_svc.tools.search.tavily import Tavily
from orchestrator_svc.tools.search.tools import search_tool
from orchestrator_svc.tools.tool import Tool
from orchestrator_svc.tools.units import CONVERTER
from orchestrator_svc.tools.weather.open_meteo import OpenMeteo, OpenMeteoPlaces
from orchestrator_svc.tools.weather.tools import weather_tools


@asynccontextmanager
async def toolbox(
    settings: Settings, ways_out: Callable[[], AbstractAsyncContextManager[Egress]] = egress
) -> AsyncIterator[Catalogue]:
    """The actions; the connections that they hold are closed at the end of the block.

    What is not configured is there and says so. Raises Refused for an address that no service can have.
    """
    with ExitStack() as stack:
        async with ways_out() as out:
            yield await Toolbox(settings, out, stack).catalogue()


class Toolbox:
    """Builds each action with the adapters that its settings name."""

    def __init__(self, settings: Settings, out: Egress, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._out = out
        self._private = {each.strip() for each in settings.private_services.split(",")}

    async def catalogue(self) -> Catalogue:
        """All of them."""
        return Catalogue(
            (
                *(CALCULATOR, CLOCK, CONVERTER, FIND_TOOLS),
                *HOSTED,
                *await self._weather(),
                location_tool(*await self._places()),
                directions_tool(await self._routers(), await self._finders()),
                knowledge_tool(self._encyclopedia()),
                search_tool(await self._search(), missing=self._search_lacks()),
                page_tool(await self._out.web() if self._settings.fetch_pages else None),
            )
        )

    async def _search(self) -> Search | None:
        chosen, url = self._settings.search, self._settings.search_url
        if not chosen or self._search_lacks():
            return None
        key = self._settings.key("search")
        match chosen:
            case "searxng":
                return Searxng(await self._site(url, "search"))
            case "brave":
                return Brave(await self._site(url or brave.HOME, "search"), key=key)
            case "tavily":
                return Tavily(await self._site(url or tavily.HOME, "search"), key=key)
            case "duckduckgo":
                return DuckDuckGo(await self._site(url or duckduckgo.HOME, "search"))
            case _:
                assert_never(chosen)

    def _search_lacks(self) -> str:
        """What the chosen search still needs, for a person; empty when nothing."""
        match self._settings.search:
            case "searxng" if not self._settings.search_url:
                return "Web search by SearXNG needs its address: set ORCHESTRATOR_SEARCH_URL."
            case "brave" | "tavily" if not self._settings.key("search"):
                return "Web search needs a key: set ORCHESTRATOR_SEARCH_KEY or ORCHESTRATOR_SEARCH_KEY_FILE."
            case _:
                return ""

    async def _weather(self) -> tuple[Tool[Any], ...]:
        if not self._settings.weather:
            return weather_tools(None, ())
        key = self._settings.key("weather")
        finders: list[Finder] = [*self._gazetteer()]
        if self._settings.geocoding_url:
            places = await self._site(self._settings.geocoding_url, "geocoding")
            finders.append(OpenMeteoPlaces(places, key=key))
        site = await self._site(self._settings.weather_url, "weather")
        return weather_tools(OpenMeteo(site, key=key), finders)

    async def _places(self) -> tuple[Places | None, tuple[Finder, ...]]:
        """The first source of places there is: Overpass knows kinds best, then Photon, then Nominatim."""
        if self._settings.overpass_url:
            return Overpass(await self._site(self._settings.overpass_url, "overpass")), await self._finders()
        return next(iter(await self._namers()), None), await self._finders()

    async def _namers(self) -> tuple[Photon | Nominatim, ...]:
        """Those that know addresses by name."""
        chosen = self._settings
        photon = [Photon(await self._site(chosen.photon_url, "photon"))] if chosen.photon_url else []
        nominatim = (
            [Nominatim(await self._site(chosen.nominatim_url, "nominatim"))] if chosen.nominatim_url else []
        )
        return (*photon, *nominatim)

    async def _finders(self) -> tuple[Finder, ...]:
        """Who knows where something is, the offline one first."""
        return (*self._gazetteer(), *await self._namers())

    async def _routers(self) -> tuple[Router, ...]:
        chosen = self._settings
        urls: dict[Mode, str] = {
            "driving": chosen.osrm_url,
            "walking": chosen.osrm_walking_url,
            "bicycling": chosen.osrm_bicycling_url,
        }
        sites = {mode: await self._site(url, "osrm") for mode, url in urls.items() if url}
        valhalla = await self._site(chosen.valhalla_url, "valhalla") if chosen.valhalla_url else None
        return (
            *((Valhalla(valhalla, transit=chosen.valhalla_transit),) if valhalla else ()),
            *((Osrm(sites),) if sites else ()),
        )

    def _gazetteer(self) -> tuple[Gazetteer, ...]:
        book = self._book(gazetteer.BOOK)
        return (Gazetteer(book),) if book else ()

    def _encyclopedia(self) -> Encyclopedia | None:
        book = self._book(encyclopedia.BOOK)
        return Encyclopedia(book) if book else None

    def _book(self, name: str) -> sqlite3.Connection | None:
        """A book of the reference, opened to be read only; None when it is not there."""
        folder = self._settings.reference_dir
        if folder is None or not (folder / name).is_file():
            return None
        where = (folder / name).absolute().as_uri() + "?mode=ro&immutable=1"
        return self._stack.enter_context(closing(sqlite3.connect(where, uri=True, check_same_thread=False)))

    async def _site(self, url: str, service: str) -> Site:
        return await self._out.site(url, private=service in self._private)
