"""The actions of this room, put together from what the operator configured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.egress.web import Egress, Site, egress
from orchestrator_svc.settings import Settings
from orchestrator_svc.tools.calculator import CALCULATOR
from orchestrator_svc.tools.clock import CLOCK
from orchestrator_svc.tools.places.spot import Finder
from orchestrator_svc.tools.tool import Tool
from orchestrator_svc.tools.units import CONVERTER
from orchestrator_svc.tools.weather.open_meteo import OpenMeteo, OpenMeteoPlaces
from orchestrator_svc.tools.weather.tools import weather_tools


@asynccontextmanager
async def toolbox(settings: Settings) -> AsyncIterator[Catalogue]:
    """The actions; the connections that they hold are closed at the end of the block.

    What is not configured is there and says so. Raises Refused for an address that no service can have.
    """
    async with egress() as out:
        yield await Toolbox(settings, out).catalogue()


class Toolbox:
    """Builds each action with the adapters that its settings name."""

    def __init__(self, settings: Settings, out: Egress) -> None:
        self._settings = settings
        self._out = out
        self._private = {each.strip() for each in settings.private_services.split(",")}

    async def catalogue(self) -> Catalogue:
        """All of them."""
        return Catalogue((CALCULATOR, CLOCK, CONVERTER, *await self._weather()))

    async def _weather(self) -> tuple[Tool[Any], ...]:
        if not self._settings.weather:
            return weather_tools(None, ())
        key = self._settings.key("weather")
        finders: list[Finder] = []
        if self._settings.geocoding_url:
            places = await self._site(self._settings.geocoding_url, "geocoding")
            finders.append(OpenMeteoPlaces(places, key=key))
        site = await self._site(self._settings.weather_url, "weather")
        return weather_tools(OpenMeteo(site, key=key), finders)

    async def _site(self, url: str, service: str) -> Site:
        return await self._out.site(url, private=service in self._private)
