"""A place on the map, and finding the one that a person means."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from orchestrator_svc.conversation import ContextUpdate
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Setting, ToolFailure

HERE = "device.location"  # the fact that holds where the person's device is
LAST = (
    "weather.place"  # the context item that holds the place whose weather was told last in the conversation
)
LAST_SECONDS = 6 * 3600.0
_EARTH_METERS = 6_371_000.0
_COORDINATES = re.compile(r"\s*(-?\d{1,2}(?:\.\d+)?)\s*[,; ]\s*(-?\d{1,3}(?:\.\d+)?)\s*")
_MEANS_HERE = frozenset({"", "current", "here", "my location", "current location", "nearby", "near me"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """A place: degrees north and east, a name to show, and its IANA time zone where it is known."""

    latitude: float
    longitude: float
    name: str = ""
    time_zone: str = ""


class Finder(Protocol):
    """Knows places by name."""

    async def find(self, name: str, *, near: Spot | None = None) -> Sequence[Spot]:
        """The places of that name, the likeliest first; none when it knows none. Raises ToolFailure."""


class _Device(msgspec.Struct):
    latitude: float = 0.0  # the contract leaves zeros out
    longitude: float = 0.0
    label: str = ""


async def located(
    asked: str, setting: Setting, finders: Sequence[Finder], *, field: str, near: Spot | None = None
) -> Spot:
    """The place that a person calls `asked`: coordinates, a name, or (empty, "current") where they are.

    Raises ToolFailure that names `field` when there is none.
    """
    if asked.strip().casefold() in _MEANS_HERE:
        return _here(setting, field)
    if (given := coordinates(asked)) is not None:
        return given
    failed: ToolFailure | None = None
    for finder in finders:
        try:
            found = await finder.find(asked, near=near)
        except ToolFailure as error:
            failed = error
            continue
        if found:
            return found[0]
    if failed is not None:
        raise failed
    raise ToolFailure(
        f"No place called {asked[:80]!r} is known. Name a city, with its country if there are several.",
        reason=Reason.ARGUMENTS_INVALID,
        field=field,
    )


async def followed(
    asked: str, setting: Setting, finders: Sequence[Finder], *, field: str
) -> tuple[Spot, ContextUpdate]:
    """Like `located`, but an empty `asked` is the place before, when there was one; and what to keep of this one.

    Where the person is is not kept: only that they meant it.
    """
    last = _last(setting) if not asked.strip() else None
    spot = last or await located(asked, setting, finders, field=field)
    here = last is None and asked.strip().casefold() in _MEANS_HERE
    kept = {} if here else {"name": spot.name, "latitude": spot.latitude, "longitude": spot.longitude}
    value = msgspec.json.encode({**kept, "time_zone": spot.time_zone} if kept else kept).decode()
    return spot, ContextUpdate(key=LAST, value=value, ttl=LAST_SECONDS)


def coordinates(asked: str) -> Spot | None:
    """The place at "latitude, longitude", or None for any other text."""
    match = _COORDINATES.fullmatch(asked)
    if match is None:
        return None
    latitude, longitude = float(match[1]), float(match[2])
    if abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return Spot(latitude=latitude, longitude=longitude, name=f"{latitude:g}, {longitude:g}")


def meters(one: Spot, other: Spot) -> float:
    """The distance along the ground, as the crow flies."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(other.longitude - one.longitude)
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
    return 2 * _EARTH_METERS * math.asin(min(1.0, math.sqrt(half)))


class _Kept(msgspec.Struct):
    name: str
    latitude: float
    longitude: float
    time_zone: str = ""


def _last(setting: Setting) -> Spot | None:
    try:
        kept = msgspec.json.decode(setting.facts.get(LAST, ""), type=_Kept)
    except msgspec.DecodeError:
        return None
    if abs(kept.latitude) > 90 or abs(kept.longitude) > 180:
        return None
    return Spot(latitude=kept.latitude, longitude=kept.longitude, name=kept.name, time_zone=kept.time_zone)


def _here(setting: Setting, field: str) -> Spot:
    if HERE in setting.withheld:
        raise ToolFailure(
            "Your location may not leave this machine. Name the place, or allow it in your device's settings.",
            reason=Reason.ACTION_FORBIDDEN,
            field=field,
        )
    try:
        device = msgspec.json.decode(setting.facts.get(HERE, ""), type=_Device)
    except msgspec.DecodeError as error:
        raise ToolFailure(
            "Where you are is not known: no device shares its location. Name the place.",
            reason=Reason.ARGUMENTS_INVALID,
            field=field,
        ) from error
    name = device.label or "your location"
    return Spot(latitude=device.latitude, longitude=device.longitude, name=name)
