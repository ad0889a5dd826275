"""How the rooms are, as `mesh status` tells it."""

from collections.abc import Mapping
from dataclasses import dataclass

_SILENT = ("serving", "unspecified")  # nothing to add to what this command found itself


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomStatus:
    """One room as context_svc sees it. `open_streams` is None where it is not known."""

    name: str
    version: str
    health: str
    note: str
    open_streams: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshStatus:
    """The mesh as context_svc sees it. `turns` counts those that are not over, by state."""

    version: str
    turns: Mapping[str, int]
    setup_needed: bool
    rooms: tuple[RoomStatus, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table: `serving` is what this command itself found at the room's socket."""

    name: str
    serving: bool
    version: str
    streams: str
    note: str


def rows(serving: Mapping[str, bool], told: MeshStatus | None) -> list[Row]:
    """Answer a line for each room: what was found at its socket, and what context_svc adds."""
    known = {room.name: room for room in told.rooms} if told else {}
    return [_row(name, answers, known.get(name)) for name, answers in serving.items()]


def _row(name: str, serving: bool, told: RoomStatus | None) -> Row:
    if told is None:
        return Row(name=name, serving=serving, version="", streams="", note="")
    streams = "" if told.open_streams is None else str(told.open_streams)
    note = told.note or ("" if told.health in _SILENT else f"context_svc finds it {told.health}")
    return Row(name=name, serving=serving, version=told.version, streams=streams, note=note)
