"""get_weather and get_forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from orchestrator_svc.conversation import ContextUpdate, Source
from orchestrator_svc.tools.inquiry import absent
from orchestrator_svc.tools.kept import Kept
from orchestrator_svc.tools.places.spot import HERE, LAST, Finder, Spot, followed
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool
from orchestrator_svc.tools.weather.report import (
    Day,
    Now,
    Units,
    Weather,
    told_days,
    told_now,
)

OFF = (
    "Weather is not turned on: set ORCHESTRATOR_WEATHER=open-meteo. The place asked about then goes to "
    "open-meteo.com."
)
NOW_SECONDS, DAYS_SECONDS = 600, 1_800

_Place = Annotated[
    str,
    msgspec.Meta(
        max_length=200,
        description='City, like "Paris, France"; "here": where the person is; empty: the place before, else here',
    ),
]
_Units = Annotated[
    Literal["", "metric", "imperial"],
    msgspec.Meta(description="metric, imperial or empty: as the person prefers"),
]


class WeatherWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which weather to tell."""

    location: _Place = ""
    units: _Units = ""


class ForecastWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which forecast to tell."""

    location: _Place = ""
    days: Annotated[int, msgspec.Meta(ge=1, le=10, description="Days, today first, 1 to 10")] = 3
    units: _Units = ""


class Forecaster:
    """Performs both actions; what was asked a few minutes ago is not asked again."""

    def __init__(self, weather: Weather, finders: Sequence[Finder]) -> None:
        self._weather = weather
        self._finders = finders
        self._now: Kept[Now] = Kept(NOW_SECONDS)
        self._days: Kept[Sequence[Day]] = Kept(DAYS_SECONDS)

    async def tell_now(self, wanted: WeatherWanted, setting: Setting) -> Output:
        """The weather now. Raises ToolFailure."""
        spot, kept = await followed(wanted.location, setting, self._finders, field="location")
        units = _units(wanted.units, setting)
        now, at = await self._now.get(
            (*_cell(spot), units), setting.now_us, lambda: self._weather.now(spot, units)
        )
        return self._output(told_now(spot, now, units), at, kept)

    async def tell_days(self, wanted: ForecastWanted, setting: Setting) -> Output:
        """The weather of the next days. Raises ToolFailure."""
        spot, kept = await followed(wanted.location, setting, self._finders, field="location")
        units = _units(wanted.units, setting)
        days, at = await self._days.get(
            (*_cell(spot), units, wanted.days),
            setting.now_us,
            lambda: self._weather.days(spot, units, wanted.days),
        )
        return self._output(told_days(spot, days, units), at, kept)

    def _output(self, told: str, at_us: int, kept: ContextUpdate) -> Output:
        source = Source(
            title=self._weather.source,
            uri=self._weather.home,
            fetched_at_us=at_us,
            publisher=self._weather.source.split(",")[0],
        )
        content = f"{told}\nSource: {self._weather.source}"
        return Output(content=content, sources=(source,), context_updates=(kept,))


def weather_tools(
    weather: Weather | None, finders: Sequence[Finder]
) -> tuple[Tool[WeatherWanted], Tool[ForecastWanted]]:
    """Both actions; without `weather` they say how to turn them on."""
    forecaster = Forecaster(weather, finders) if weather else None
    missing = "" if weather else OFF
    return (
        Tool(
            name="get_weather",
            description="Tells the weather now at a place: temperature, conditions, humidity, wind, rain.",
            arguments=WeatherWanted,
            perform=forecaster.tell_now if forecaster else absent(OFF),
            agent="weather",
            effect=Effect.READS_OUT,
            timeout=25.0,
            consents=("location",),
            context_keys=(HERE, LAST),
            examples=(Example(request="Is it cold in Oslo?", arguments={"location": "Oslo"}),),
            missing=missing,
        ),
        Tool(
            name="get_forecast",
            description="Tells the weather of the next days at a place, for tomorrow too.",
            arguments=ForecastWanted,
            perform=forecaster.tell_days if forecaster else absent(OFF),
            agent="weather",
            effect=Effect.READS_OUT,
            timeout=25.0,
            consents=("location",),
            context_keys=(HERE, LAST),
            examples=(
                Example(request="Will it rain in Rome tomorrow?", arguments={"location": "Rome", "days": 2}),
            ),
            missing=missing,
        ),
    )


def _units(asked: str, setting: Setting) -> Units:
    return "imperial" if (asked or setting.manner.units) == "imperial" else "metric"


def _cell(spot: Spot) -> tuple[float, float]:
    """About a kilometre: weather is not finer."""
    return round(spot.latitude, 2), round(spot.longitude, 2)
