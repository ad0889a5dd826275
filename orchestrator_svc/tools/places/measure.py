"""Distances and times in words, in the units that a person reads."""

from __future__ import annotations

_MILE, _FOOT = 1_609.344, 0.3048


def distance(meters: float, units: str) -> str:
    """A distance: metres and kilometres, or feet and miles for "imperial"."""
    if units == "imperial":
        miles = meters / _MILE
        return f"{meters / _FOOT:.0f} ft" if miles < 0.2 else f"{miles:.1f} mi"
    return f"{meters:.0f} m" if meters < 1_000 else f"{meters / 1_000:.1f} km"


def duration(seconds: float) -> str:
    """A time: minutes, or hours and minutes."""
    minutes = max(1, round(seconds / 60))
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
