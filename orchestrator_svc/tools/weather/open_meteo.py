"""Open-Meteo (open-meteo.com): forecasts and geocoding, without an account for private use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from orchestrator_svc.egress.web import Bounds, Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places.spot import Spot
from orchestrator_svc.tools.weather.report import Day, Now, Units

T = TypeVar("T")

_NAME = "Open-Meteo"
_BOUNDS = Bounds(bytes=256 * 1024)
_NOW = (
    "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,wind_speed_10m,"
    "wind_direction_10m"
)
_DAILY = (
    "weather_code,temperature_2m_max,temperature_2m_min,precipitation_sum,precipitation_probability_max,"
    "wind_speed_10m_max"
)
_IMPERIAL = {"temperature_unit": "fahrenheit", "wind_speed_unit": "mph", "precipitation_unit": "inch"}


class _Current(msgspec.Struct):
    time: str
    temperature_2m: float
    apparent_temperature: float
    relative_humidity_2m: float
    precipitation: float
    weather_code: int
    wind_speed_10m: float
    wind_direction_10m: float


class _NowReply(msgspec.Struct):
    timezone: str
    current: _Current


class _Daily(msgspec.Struct):
    time: list[str]
    weather_code: list[int]
    temperature_2m_max: list[float]
    temperature_2m_min: list[float]
    precipitation_sum: list[float]
    precipitation_probability_max: list[float | None]
    wind_speed_10m_max: list[float]


class _DaysReply(msgspec.Struct):
    daily: _Daily


class _Match(msgspec.Struct):
    name: str
    latitude: float
    longitude: float
    country: str = ""
    country_code: str = ""
    admin1: str = ""
    timezone: str = ""


class _MatchesReply(msgspec.Struct):
    results: list[_Match] = []


class OpenMeteo:
    """The port `Weather`."""

    source = "Open-Meteo, CC BY 4.0"
    home = "https://open-meteo.com"

    def __init__(self, site: Site, *, key: str = "") -> None:
        self._site = site
        self._key = {"apikey": key} if key else {}

    async def now(self, spot: Spot, units: Units) -> Now:
        """The weather there now."""
        reply = await self._forecast(spot, units, {"current": _NOW}, _NowReply)
        current = reply.current
        return Now(
            time=current.time,
            time_zone=reply.timezone,
            code=current.weather_code,
            temperature=current.temperature_2m,
            feels_like=current.apparent_temperature,
            humidity=current.relative_humidity_2m,
            wind_speed=current.wind_speed_10m,
            wind_direction=current.wind_direction_10m,
            precipitation=current.precipitation,
        )

    async def days(self, spot: Spot, units: Units, count: int) -> Sequence[Day]:
        """The weather of the next `count` days there, today first."""
        asked: dict[str, str | int] = {"daily": _DAILY, "forecast_days": count}
        daily = (await self._forecast(spot, units, asked, _DaysReply)).daily
        columns = (
            daily.time,
            daily.weather_code,
            daily.temperature_2m_max,
            daily.temperature_2m_min,
            daily.precipitation_sum,
            daily.precipitation_probability_max,
            daily.wind_speed_10m_max,
        )
        if {len(column) for column in columns} != {count}:
            raise inquiry.garbage(_NAME)
        return [
            Day(
                date=date,
                code=code,
                highest=highest,
                lowest=lowest,
                precipitation=rain,
                chance=chance,
                wind_speed=wind,
            )
            for date, code, highest, lowest, rain, chance, wind in zip(*columns, strict=True)
        ]

    async def _forecast(self, spot: Spot, units: Units, asked: Mapping[str, str | int], into: type[T]) -> T:
        query: dict[str, str | int | float] = {
            "latitude": f"{spot.latitude:.4f}",
            "longitude": f"{spot.longitude:.4f}",
            "timezone": "auto",
            **asked,
            **(_IMPERIAL if units == "imperial" else {}),
            **self._key,
        }
        return await inquiry.value(self._site.get("v1/forecast", query, bounds=_BOUNDS), into, name=_NAME)


class OpenMeteoPlaces:
    """The port `Finder`, for cities and villages."""

    def __init__(self, site: Site, *, key: str = "") -> None:
        self._site = site
        self._key = {"apikey": key} if key else {}

    async def find(self, name: str, *, near: Spot | None = None) -> Sequence[Spot]:
        """The places of that name, the most populous first; "Paris, Texas" prefers the one in Texas."""
        town, *rest = (part.strip() for part in name.split(","))
        query: dict[str, str | int | float] = {
            "name": town,
            "count": 10,
            "language": "en",
            "format": "json",
            **self._key,
        }
        reply = await inquiry.value(
            self._site.get("v1/search", query, bounds=_BOUNDS), _MatchesReply, name=f"{_NAME} geocoding"
        )
        wanted = {each.casefold() for each in rest if each}
        fitting = [match for match in reply.results if wanted <= _regions(match)]
        return [_spot(match) for match in fitting]


def _regions(match: _Match) -> set[str]:
    return {match.admin1.casefold(), match.country.casefold(), match.country_code.casefold()}


def _spot(match: _Match) -> Spot:
    shown = ", ".join(filter(None, (match.name, match.admin1, match.country)))
    return Spot(latitude=match.latitude, longitude=match.longitude, name=shown, time_zone=match.timezone)
