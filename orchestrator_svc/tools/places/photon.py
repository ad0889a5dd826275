"""Photon (photon.komoot.io, or your own): places and addresses of OpenStreetMap by name, tolerant of misspelling."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator_svc.egress.web import Bounds, Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places.found import TAGS, Around, Found, nearest
from orchestrator_svc.tools.places.refusal import words_needed
from orchestrator_svc.tools.places.spot import Spot, meters

_NAME = "Photon"
_BOUNDS = Bounds(bytes=1024 * 1024)
_MOST = 50


class _Point(msgspec.Struct):
    coordinates: tuple[float, float]


class _About(msgspec.Struct):
    name: str = ""
    osm_key: str = ""
    osm_value: str = ""
    street: str = ""
    housenumber: str = ""
    postcode: str = ""
    city: str = ""
    state: str = ""
    country: str = ""


class _Feature(msgspec.Struct):
    geometry: _Point
    properties: _About


class _Reply(msgspec.Struct):
    features: list[_Feature]


class Photon:
    """The ports `Places` and `Finder`."""

    source = "OpenStreetMap, ODbL"
    home = "https://www.openstreetmap.org/copyright"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def find(self, name: str, *, near: Spot | None = None) -> Sequence[Spot]:
        """The places of that name or address, the likeliest first."""
        bias = _at(near) if near else {}
        return [_spot(each) for each in await self._asked("api", {"q": name, "limit": 5, **bias})]

    async def around(self, wanted: Around) -> Sequence[Found]:
        """The places, the nearest first. Raises ToolFailure."""
        kinds = TAGS[wanted.kind]
        if not wanted.query and not kinds:
            raise words_needed(_NAME)
        features: list[_Feature] = []
        for tag in [f"{key}:{value}" for key, value in kinds] or [""]:
            query: dict[str, str | int | float] = {"limit": _MOST, **_at(wanted.centre)}
            query |= {"osm_tag": tag} if tag else {}
            query |= {"q": wanted.query} if wanted.query else {"radius": wanted.radius / 1_000}
            features += await self._asked("api" if wanted.query else "reverse", query)
        return nearest((_found(each, wanted) for each in features), wanted)

    async def _asked(self, path: str, query: dict[str, str | int | float]) -> list[_Feature]:
        reply = await inquiry.value(self._site.get(path, query, bounds=_BOUNDS), _Reply, name=_NAME)
        return reply.features


def _at(spot: Spot) -> dict[str, str | int | float]:
    return {"lat": f"{spot.latitude:.5f}", "lon": f"{spot.longitude:.5f}"}


def _spot(feature: _Feature) -> Spot:
    longitude, latitude = feature.geometry.coordinates
    about = feature.properties
    shown = ", ".join(filter(None, (about.name, _address(about))))
    return Spot(latitude=latitude, longitude=longitude, name=shown[:200])


def _found(feature: _Feature, wanted: Around) -> Found:
    longitude, latitude = feature.geometry.coordinates
    about = feature.properties
    spot = Spot(latitude=latitude, longitude=longitude, name=about.name or f"({about.osm_value}, no name)")
    return Found(
        spot=spot,
        meters=meters(wanted.centre, spot),
        kind=about.osm_value.replace("_", " "),
        address=_address(about),
    )


def _address(about: _About) -> str:
    street = " ".join(filter(None, (about.street, about.housenumber)))
    town = " ".join(filter(None, (about.postcode, about.city)))
    return ", ".join(filter(None, (street, town, about.state, about.country)))
