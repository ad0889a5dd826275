"""The few column types whose names differ between the engines, so that each table is written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chassis.database import Engine

_TYPES: Mapping[Engine, Mapping[str, str]] = {
    "sqlite": {"KEY": "TEXT", "BYTES": "BLOB"},
    "postgres": {"KEY": 'TEXT COLLATE "C"', "BYTES": "BYTEA"},
}


def both(sql: str) -> dict[Engine | Literal["all"], str]:
    """The script for each engine. ``{KEY}`` is text ordered by its bytes, ``{BYTES}`` is binary."""
    return {engine: sql.format(**types) for engine, types in _TYPES.items()}
