"""Overpass (overpass-api.de, or your own): places of OpenStreetMap by what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from orchestrator_svc.egress.web import Bounds, Site
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places.found import TAGS, Around, Found, Kind, nearest
from orchestrator_svc.tools.places.spot import Spot, meters
from orchestrator_svc.tools.tool import ToolFailure

_NAME = "Overpass"
_MOST = 300  # elements fetched, of which the nearest are taken
_BOUNDS = Bounds(bytes=2 * 1024 * 1024, seconds=20.0)
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}
_ADDRESS = ("addr:street", "addr:housenumber", "addr:postcode", "addr:city")


class _Center(msgspec.Struct):
    lat: float
    lon: float


class _Element(msgspec.Struct):
    lat: float | None = None
    lon: float | None = None
    center: _Center | None = None
    tags: dict[str, str] = {}


class _Reply(msgspec.Struct):
    elements: list[_Element]
    remark: str = ""


class Overpass:
    """The port `Places`."""

    source = "OpenStreetMap, ODbL"
    home = "https://www.openstreetmap.org/copyright"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def around(self, wanted: Around) -> Sequence[Found]:
        """The places, the nearest first. Raises ToolFailure."""
        body = urlencode({"data": question(wanted)}).encode()
        asking = self._site.post("", body, headers=_HEADERS, bounds=_BOUNDS)
        reply = await inquiry.value(asking, _Reply, name=_NAME)
        if "error" in reply.remark.casefold():
            raise ToolFailure(
                f"{_NAME} gave up on this search; try a smaller radius.",
                reason=Reason.PROVIDER_FAILED,
                field="radius",
                retryable=True,
            )
        return nearest(filter(None, (_found(each, wanted) for each in reply.elements)), wanted)


def question(wanted: Around) -> str:
    """What is asked, in Overpass QL."""
    centre = wanted.centre
    near = f"(around:{wanted.radius},{centre.latitude:.6f},{centre.longitude:.6f})"
    named = f'["name"~"{_literal(wanted.query)}",i]' if wanted.query else '["name"]'
    if wanted.kind is Kind.ANY:
        kinds = ['["amenity"]', '["shop"]', '["tourism"]', '["leisure"]']
        named = named if wanted.query else '["name"]'
    else:
        kinds = [f'["{key}"="{value}"]' for key, value in TAGS[wanted.kind]]
        named = named if wanted.query else ""
    lines = "".join(f"nwr{kind}{named}{near};" for kind in kinds)
    return f"[out:json][timeout:15];({lines});out center tags {_MOST};"


def _literal(text: str) -> str:
    """Text as a regular expression inside a quoted string of Overpass QL."""
    return re.escape(text).replace("\\ ", " ").replace("\\", "\\\\").replace('"', '\\"')


def _found(element: _Element, wanted: Around) -> Found | None:
    latitude = element.center.lat if element.center else element.lat
    longitude = element.center.lon if element.center else element.lon
    if latitude is None or longitude is None:
        return None
    tags = element.tags
    kind = next((tags[key] for key in ("amenity", "shop", "tourism", "leisure") if key in tags), "")
    spot = Spot(latitude=latitude, longitude=longitude, name=tags.get("name", "") or f"({kind}, no name)")
    return Found(
        spot=spot,
        meters=meters(wanted.centre, spot),
        kind=kind.replace("_", " "),
        address=_address(tags),
        opening_hours=tags.get("opening_hours", "")[:200],
        phone=tags.get("phone", tags.get("contact:phone", ""))[:60],
        website=tags.get("website", tags.get("contact:website", ""))[:200],
    )


def _address(tags: Mapping[str, str]) -> str:
    street = " ".join(filter(None, (tags.get(key, "") for key in _ADDRESS[:2])))
    town = " ".join(filter(None, (tags.get(key, "") for key in _ADDRESS[2:])))
    return ", ".join(filter(None, (street, town)))[:200]
