"""get_directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from orchestrator_svc.conversation import Source
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.places import measure
from orchestrator_svc.tools.places.route import Mode, Route, Router
from orchestrator_svc.tools.places.spot import HERE, Finder, Spot, located
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool

OFF = (
    "Directions are not turned on: set ORCHESTRATOR_VALHALLA_URL, or ORCHESTRATOR_OSRM_URL (with "
    "ORCHESTRATOR_OSRM_WALKING_URL and ORCHESTRATOR_OSRM_BICYCLING_URL)."
)
STEPS = 40


class WayWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which way to tell."""

    destination: Annotated[
        str, msgspec.Meta(min_length=1, max_length=200, description="Where to, a place or an address")
    ]
    origin: Annotated[
        str, msgspec.Meta(max_length=200, description="Where from; empty: where the person is")
    ] = ""
    mode: Annotated[Mode, msgspec.Meta(description="How to go")] = "driving"


class Directions:
    """Performs the action with the first router that knows the way of going."""

    def __init__(self, routers: Sequence[Router], finders: Sequence[Finder]) -> None:
        self._routers = routers
        self._finders = finders

    async def find(self, wanted: WayWanted, setting: Setting) -> Output:
        """Distance, time and steps. Raises ToolFailure."""
        router = self._router(wanted.mode)
        origin = await located(wanted.origin, setting, self._finders, field="origin")
        destination = await located(
            wanted.destination, setting, self._finders, field="destination", near=origin
        )
        route = await router.route(origin, destination, wanted.mode)
        source = Source(
            title=router.source,
            uri=router.home,
            fetched_at_us=setting.now_us,
            publisher=router.source.split(",")[0],
        )
        told = _told(route, origin, destination, wanted.mode, setting.manner.units)
        return Output(content=f"{told}\nSource: {router.source}", sources=(source,))

    def _router(self, mode: Mode) -> Router:
        for router in self._routers:
            if mode in router.modes:
                return router
        can = ", ".join(sorted({each for router in self._routers for each in router.modes}))
        raise inquiry.not_configured(f"No configured router plans {mode}; there is {can}.", field="mode")


def directions_tool(routers: Sequence[Router], finders: Sequence[Finder]) -> Tool[WayWanted]:
    """The action; without `routers` it says how to turn it on."""
    return Tool(
        name="get_directions",
        description="Tells the way to a place: distance, time and each turn, by car, on foot or by bicycle.",
        arguments=WayWanted,
        perform=Directions(routers, finders).find if routers else inquiry.absent(OFF),
        agent="places",
        effect=Effect.READS_OUT,
        timeout=30.0,
        consents=("location",),
        context_keys=(HERE,),
        examples=(
            Example(
                request="How do I walk from Rossio to Alfama?",
                arguments={"origin": "Rossio", "destination": "Alfama", "mode": "walking"},
            ),
        ),
        missing="" if routers else OFF,
    )


def _told(route: Route, origin: Spot, destination: Spot, mode: Mode, units: str) -> str:
    lines = [
        f"{origin.name} to {destination.name}, {mode}: {measure.distance(route.meters, units)}, "
        f"{measure.duration(route.seconds)}"
    ]
    for number, step in enumerate(route.steps[:STEPS], 1):
        reach = f" ({measure.distance(step.meters, units)})" if step.meters >= 1 else ""
        lines.append(f"{number}. {step.text}{reach}")
    if len(route.steps) > STEPS:
        lines.append(f"… and {len(route.steps) - STEPS} more steps")
    return "\n".join(lines)
