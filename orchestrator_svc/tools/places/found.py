"""Places of some kind around a point, whoever knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from orchestrator_svc.tools.places.spot import Spot


class Kind(Enum):
    """What sort of place is looked for."""

    RESTAURANT = "restaurant"
    GAS_STATION = "gas_station"
    COFFEE = "coffee"
    PHARMACY = "pharmacy"
    GROCERY = "grocery"
    HOTEL = "hotel"
    ANY = "any"


# What OpenStreetMap calls each kind: pairs of key and value.
TAGS: Mapping[Kind, tuple[tuple[str, str], ...]] = {
    Kind.RESTAURANT: (("amenity", "restaurant"), ("amenity", "fast_food")),
    Kind.GAS_STATION: (("amenity", "fuel"),),
    Kind.COFFEE: (("amenity", "cafe"),),
    Kind.PHARMACY: (("amenity", "pharmacy"),),
    Kind.GROCERY: (("shop", "supermarket"), ("shop", "convenience"), ("shop", "greengrocer")),
    Kind.HOTEL: (("tourism", "hotel"), ("tourism", "guest_house"), ("tourism", "hostel")),
    Kind.ANY: (),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """What is looked for: words (or none), a kind, and how far from where, in metres."""

    centre: Spot
    query: str
    kind: Kind
    radius: int
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One place. What the source does not know is empty or None; nothing is guessed."""

    spot: Spot
    meters: float
    kind: str = ""
    address: str = ""
    opening_hours: str = ""
    open_now: bool | None = None
    rating: float | None = None
    phone: str = ""
    website: str = ""


class Places(Protocol):
    """Knows places. Raises ToolFailure; names the parameter that it cannot honour."""

    @property
    def source(self) -> str:
        """Whom to name for it, with the licence."""

    @property
    def home(self) -> str:
        """Where a person can read about the source."""

    async def around(self, wanted: Around) -> Sequence[Found]:
        """The places, the nearest first: at most `limit`, none farther than `radius`."""


def nearest(found: Iterable[Found], wanted: Around) -> list[Found]:
    """Those within the radius, the nearest first, at most as many as wanted."""
    within = [each for each in found if each.meters <= wanted.radius]
    return sorted(within, key=lambda each: each.meters)[: wanted.limit]
