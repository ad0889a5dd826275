"""The weather as this room knows it, whoever measured it, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from orchestrator_svc.tools.places.spot import Spot

Units: TypeAlias = Literal["metric", "imperial"]
UNITS: tuple[Units, ...] = ("metric", "imperial")

# WMO code table 4677, as far as forecasts use it.
_CONDITIONS = {
    0: "clear sky",
    1: "mostly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "fog with rime",
    51: "light drizzle",
    53: "drizzle",
    55: "heavy drizzle",
    56: "light freezing drizzle",
    57: "freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "freezing rain",
    71: "light snow",
    73: "snow",
    75: "heavy snow",
    77: "snow grains",
    80: "light showers",
    81: "showers",
    82: "violent showers",
    85: "light snow showers",
    86: "snow showers",
    95: "thunderstorm",
    96: "thunderstorm with hail",
    99: "thunderstorm with heavy hail",
}
_WINDS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


@dataclass(frozen=True, kw_only=True, slots=True)
class Now:
    """The weather at a time, in the units that were asked for. Humidity in per cent, direction in degrees."""

    time: str
    time_zone: str
    code: int
    temperature: float
    feels_like: float
    humidity: float
    wind_speed: float
    wind_direction: float
    precipitation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """The weather of a day. `chance` is the probability of precipitation in per cent, None if not told."""

    date: str
    code: int
    highest: float
    lowest: float
    precipitation: float
    chance: float | None
    wind_speed: float


class Weather(Protocol):
    """Knows the weather. Both raise ToolFailure; neither ever guesses."""

    @property
    def source(self) -> str:
        """Whom to name for it, with the licence."""

    @property
    def home(self) -> str:
        """Where a person can read about the source."""

    async def now(self, spot: Spot, units: Units) -> Now:
        """The weather there now."""

    async def days(self, spot: Spot, units: Units, count: int) -> Sequence[Day]:
        """The weather of the next `count` days there, today first: exactly so many."""


def conditions(code: int) -> str:
    """What a weather code means; an unknown one is told as its number."""
    return _CONDITIONS.get(code, f"weather code {code}")


def told_now(spot: Spot, now: Now, units: Units) -> str:
    """The weather now, in one line."""
    degrees, speed, depth = _symbols(units)
    wind = _WINDS[round(now.wind_direction / 45) % 8]
    return (
        f"{spot.name}, {now.time.replace('T', ' ')} ({now.time_zone}): {now.temperature:g} {degrees}, "
        f"feels like {now.feels_like:g} {degrees}, {conditions(now.code)}, humidity {now.humidity:g} %, "
        f"wind {now.wind_speed:g} {speed} from {wind}, precipitation {now.precipitation:g} {depth}"
    )


def told_days(spot: Spot, days: Sequence[Day], units: Units) -> str:
    """The weather of days, a line each."""
    return "\n".join((f"{spot.name}:", *(_told_day(day, units) for day in days)))


def _told_day(day: Day, units: Units) -> str:
    degrees, speed, depth = _symbols(units)
    chance = "" if day.chance is None else f" ({day.chance:g} % likely)"
    return (
        f"{day.date}: {conditions(day.code)}, {day.lowest:g} to {day.highest:g} {degrees}, "
        f"precipitation {day.precipitation:g} {depth}{chance}, wind up to {day.wind_speed:g} {speed}"
    )


def _symbols(units: Units) -> tuple[str, str, str]:
    return ("°F", "mph", "in") if units == "imperial" else ("°C", "km/h", "mm")
