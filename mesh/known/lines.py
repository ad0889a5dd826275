"""Preferences, consents, memories and suggestions as the terminal shows them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceLine:
    """A preference in force, and whose word it is."""

    name: str
    value: str
    decided_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentLine:
    """What the person decided about one kind of context of this device."""

    kind: str
    granted: bool
    where: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLine:
    """One memory: its key's end, its words, and who wrote it."""

    id: str
    text: str
    source: str
    updated: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SuggestionLine:
    """Something that was noticed and is proposed."""

    id: str
    name: str
    value: str
    state: str
    turns: int
