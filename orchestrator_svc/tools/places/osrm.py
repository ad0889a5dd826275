"""OSRM (project-osrm.org): a router with one server for each way of going."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestrator_svc.egress.web import Bounds, Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places.route import Mode, Route, Step, no_way
from orchestrator_svc.tools.places.spot import Spot

_NAME = "OSRM"
_BOUNDS = Bounds(bytes=4 * 1024 * 1024, seconds=15.0)
_PROFILES: Mapping[Mode, str] = {"driving": "driving", "walking": "foot", "bicycling": "bike"}
_NO_WAY = frozenset({"NoRoute", "NoSegment"})
_SAID = {
    "depart": "Start",
    "arrive": "Arrive",
    "continue": "Continue",
    "new name": "Continue",
    "merge": "Merge",
    "on ramp": "Take the ramp",
    "off ramp": "Take the exit",
    "fork": "Keep",
    "end of road": "Turn",
    "roundabout": "Enter the roundabout",
    "rotary": "Enter the roundabout",
    "exit roundabout": "Leave the roundabout",
    "exit rotary": "Leave the roundabout",
    "roundabout turn": "At the roundabout turn",
    "turn": "Turn",
    "notification": "Continue",
}


class _Maneuver(msgspec.Struct):
    type: str
    modifier: str = ""
    exit: int = 0


class _Step(msgspec.Struct):
    distance: float
    maneuver: _Maneuver
    name: str = ""
    ref: str = ""


class _Leg(msgspec.Struct):
    steps: list[_Step]


class _Route(msgspec.Struct):
    distance: float
    duration: float
    legs: list[_Leg]


class _Reply(msgspec.Struct):
    code: str
    routes: list[_Route] = []


class Osrm:
    """The port `Router`, over the servers of `sites`."""

    source = "OSRM, OpenStreetMap, ODbL"
    home = "https://www.openstreetmap.org/copyright"

    def __init__(self, sites: Mapping[Mode, Site]) -> None:
        self._sites = sites
        self.modes = frozenset(sites)

    async def route(self, origin: Spot, destination: Spot, mode: Mode) -> Route:
        """The way. Raises ToolFailure."""
        points = ";".join(f"{each.longitude:.6f},{each.latitude:.6f}" for each in (origin, destination))
        path = f"route/v1/{_PROFILES[mode]}/{points}"
        query = {"overview": "false", "steps": "true", "alternatives": "false"}
        asking = self._sites[mode].get(path, query, bounds=_BOUNDS)
        reply = await inquiry.value(asking, _Reply, name=_NAME, also=(400,))
        if reply.code in _NO_WAY:
            raise no_way(mode)
        if reply.code != "Ok" or not reply.routes:
            raise inquiry.garbage(_NAME)
        way = reply.routes[0]
        steps = [Step(text=_said(step), meters=step.distance) for leg in way.legs for step in leg.steps]
        return Route(meters=way.distance, seconds=way.duration, steps=steps)


def _said(step: _Step) -> str:
    maneuver = step.maneuver
    words = [_SAID.get(maneuver.type, maneuver.type)]
    if maneuver.modifier and maneuver.type not in ("depart", "arrive", "roundabout", "rotary"):
        words.append(maneuver.modifier)
    if maneuver.exit:
        words.append(f"and take exit {maneuver.exit}")
    if name := step.name or step.ref:
        words.append(f"on {name}" if maneuver.type in ("depart", "continue", "arrive") else f"onto {name}")
    return " ".join(words)
