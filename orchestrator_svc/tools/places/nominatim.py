"""Nominatim (nominatim.org, or your own): places and addresses of OpenStreetMap by name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from orchestrator_svc.egress.web import Bounds, Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places.found import TAGS, Around, Found, Kind, nearest
from orchestrator_svc.tools.places.refusal import words_needed
from orchestrator_svc.tools.places.spot import Spot, meters

_NAME = "Nominatim"
_BOUNDS = Bounds(bytes=1024 * 1024)
_MOST = 40  # as many as Nominatim ever gives
_METERS_PER_DEGREE = 111_320.0
_PHRASES = {
    Kind.RESTAURANT: "restaurant",
    Kind.GAS_STATION: "fuel",
    Kind.COFFEE: "cafe",
    Kind.PHARMACY: "pharmacy",
    Kind.GROCERY: "supermarket",
    Kind.HOTEL: "hotel",
    Kind.ANY: "",
}


class _Place(msgspec.Struct):
    lat: str
    lon: str
    display_name: str
    name: str = ""
    category: str = ""
    type: str = ""
    extratags: dict[str, str] | None = None


class Nominatim:
    """The ports `Places` and `Finder`."""

    source = "OpenStreetMap, ODbL"
    home = "https://www.openstreetmap.org/copyright"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def find(self, name: str, *, near: Spot | None = None) -> Sequence[Spot]:
        """The places of that name or address, the likeliest first."""
        box = _box(near, 50_000) if near else {}
        return [_spot(place) for place in await self._asked({"q": name, "limit": 5, **box})]

    async def around(self, wanted: Around) -> Sequence[Found]:
        """The places, the nearest first. Raises ToolFailure."""
        words = " ".join(filter(None, (wanted.query, "" if wanted.query else _PHRASES[wanted.kind])))
        if not words:
            raise words_needed(_NAME)
        box = {**_box(wanted.centre, wanted.radius), "bounded": 1}
        places = await self._asked({"q": words, "limit": _MOST, "extratags": 1, **box})
        tags = TAGS[wanted.kind]
        fitting = (place for place in places if not tags or (place.category, place.type) in tags)
        return nearest((_found(place, wanted) for place in fitting), wanted)

    async def _asked(self, query: dict[str, str | int | float]) -> list[_Place]:
        asking = self._site.get("search", {"format": "jsonv2", **query}, bounds=_BOUNDS)
        places = await inquiry.value(asking, list[_Place], name=_NAME)
        try:
            for place in places:
                float(place.lat), float(place.lon)
        except ValueError as error:
            raise inquiry.garbage(_NAME) from error
        return places


def _found(place: _Place, wanted: Around) -> Found:
    spot, more = _spot(place), place.extratags or {}
    spot = Spot(latitude=spot.latitude, longitude=spot.longitude, name=place.name or spot.name)
    return Found(
        spot=spot,
        meters=meters(wanted.centre, spot),
        kind=place.type.replace("_", " "),
        address=place.display_name[:200],
        opening_hours=more.get("opening_hours", "")[:200],
        phone=more.get("phone", "")[:60],
        website=more.get("website", "")[:200],
    )


def _spot(place: _Place) -> Spot:
    return Spot(latitude=float(place.lat), longitude=float(place.lon), name=place.display_name[:200])


def _box(centre: Spot, radius: float) -> dict[str, str | int | float]:
    north = radius / _METERS_PER_DEGREE
    east = north / max(0.01, math.cos(math.radians(centre.latitude)))
    corners = (
        centre.longitude - east,
        centre.latitude + north,
        centre.longitude + east,
        centre.latitude - north,
    )
    return {"viewbox": ",".join(f"{each:.5f}" for each in corners)}
