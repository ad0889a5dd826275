"""Valhalla (valhalla.github.io): a router for every way of going, with timetables where it was given some."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestrator_svc.egress.web import Bounds, Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places.route import Mode, Route, Step, no_way
from orchestrator_svc.tools.places.spot import Spot

_NAME = "Valhalla"
_BOUNDS = Bounds(bytes=4 * 1024 * 1024, seconds=15.0)
_COSTINGS: Mapping[Mode, str] = {
    "driving": "auto",
    "walking": "pedestrian",
    "bicycling": "bicycle",
    "transit": "multimodal",
}
_NO_WAY = frozenset({170, 171, 441, 442, 443})
_METERS = 1_000


class _Maneuver(msgspec.Struct):
    instruction: str
    length: float


class _Summary(msgspec.Struct):
    length: float
    time: float


class _Leg(msgspec.Struct):
    maneuvers: list[_Maneuver]


class _Trip(msgspec.Struct):
    summary: _Summary
    legs: list[_Leg]


class _Reply(msgspec.Struct):
    trip: _Trip | None = None
    error_code: int = 0


class Valhalla:
    """The port `Router`; `transit` says whether the server has timetables."""

    source = "Valhalla, OpenStreetMap, ODbL"
    home = "https://www.openstreetmap.org/copyright"

    def __init__(self, site: Site, *, transit: bool = False) -> None:
        self._site = site
        self.modes = frozenset(mode for mode in _COSTINGS if mode != "transit" or transit)

    async def route(self, origin: Spot, destination: Spot, mode: Mode) -> Route:
        """The way. Raises ToolFailure."""
        asked = {
            "locations": [{"lat": each.latitude, "lon": each.longitude} for each in (origin, destination)],
            "costing": _COSTINGS[mode],
            "units": "kilometers",
            **({"date_time": {"type": 0}} if mode == "transit" else {}),
        }
        asking = self._site.post(
            "route", msgspec.json.encode(asked), headers={"Content-Type": "application/json"}, bounds=_BOUNDS
        )
        reply = await inquiry.value(asking, _Reply, name=_NAME, also=(400,))
        if reply.error_code in _NO_WAY:
            raise no_way(mode)
        if reply.trip is None:
            raise inquiry.garbage(_NAME)
        steps = [
            Step(text=each.instruction[:300], meters=each.length * _METERS)
            for leg in reply.trip.legs
            for each in leg.maneuvers
        ]
        summary = reply.trip.summary
        return Route(meters=summary.length * _METERS, seconds=summary.time, steps=steps)
