"""location_search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from orchestrator_svc.conversation import Source
from orchestrator_svc.tools.inquiry import absent
from orchestrator_svc.tools.places import measure
from orchestrator_svc.tools.places.found import Around, Found, Kind, Places
from orchestrator_svc.tools.places.spot import HERE, Finder, located
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool

OFF = (
    "Searching for places is not turned on: set ORCHESTRATOR_OVERPASS_URL, ORCHESTRATOR_PHOTON_URL or "
    "ORCHESTRATOR_NOMINATIM_URL."
)


class PlacesWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which places to find."""

    query: Annotated[str, msgspec.Meta(max_length=120, description="A name, or empty")] = ""
    location: Annotated[
        str, msgspec.Meta(max_length=200, description='Around where, like "Lisbon"; empty: the person')
    ] = ""
    type: Annotated[
        Literal["restaurant", "gas_station", "coffee", "pharmacy", "grocery", "hotel", "any"],
        msgspec.Meta(description="What kind of place"),
    ] = "any"
    radius: Annotated[int, msgspec.Meta(ge=50, le=50_000, description="Metres around, 50 to 50000")] = 2_000
    limit: Annotated[int, msgspec.Meta(ge=1, le=50, description="How many, 1 to 50")] = 5


class PlaceSearch:
    """Performs the action."""

    def __init__(self, places: Places, finders: Sequence[Finder]) -> None:
        self._places = places
        self._finders = finders

    async def search(self, wanted: PlacesWanted, setting: Setting) -> Output:
        """The places as a list, the nearest first. Raises ToolFailure."""
        centre = await located(wanted.location, setting, self._finders, field="location")
        around = Around(
            centre=centre,
            query=wanted.query.strip(),
            kind=Kind(wanted.type),
            radius=wanted.radius,
            limit=wanted.limit,
        )
        found = await self._places.around(around)
        units = setting.manner.units
        source = Source(
            title=self._places.source,
            uri=self._places.home,
            fetched_at_us=setting.now_us,
            publisher="OpenStreetMap",
        )
        reach = measure.distance(wanted.radius, units)
        if not found:
            return Output(
                content=f"Nothing of that kind is known within {reach} of {centre.name}.", sources=(source,)
            )
        lines = [_told(number, each, units) for number, each in enumerate(found, 1)]
        head = f"Within {reach} of {centre.name}:"
        return Output(content="\n".join((head, *lines, f"Source: {self._places.source}")), sources=(source,))


def location_tool(places: Places | None, finders: Sequence[Finder]) -> Tool[PlacesWanted]:
    """The action; without `places` it says how to turn it on."""
    return Tool(
        name="location_search",
        description="Finds places nearby or in a town: restaurants, coffee, pharmacies, hotels, fuel, shops.",
        arguments=PlacesWanted,
        perform=PlaceSearch(places, finders).search if places else absent(OFF),
        agent="places",
        effect=Effect.READS_OUT,
        timeout=30.0,
        consents=("location",),
        context_keys=(HERE,),
        examples=(
            Example(request="Find a pharmacy in Porto", arguments={"location": "Porto", "type": "pharmacy"}),
        ),
        missing="" if places else OFF,
    )


def _told(number: int, each: Found, units: str) -> str:
    parts = [
        f"{number}. {each.spot.name} ({each.kind})" if each.kind else f"{number}. {each.spot.name}",
        measure.distance(each.meters, units),
        each.address,
        f"rating {each.rating:g}" if each.rating is not None else "",
        "" if each.open_now is None else ("open now" if each.open_now else "closed now"),
        f"open {each.opening_hours}" if each.opening_hours else "",
        each.phone,
        each.website,
    ]
    return "; ".join(filter(None, parts))
