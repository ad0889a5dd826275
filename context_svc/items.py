"""Context items: what is known under a key, who may write it, and what a write makes of it. Pure.

USER     anything: the person's edit makes an item theirs
DEVICE   only what this very device wrote
TOOL     only what a tool wrote
MODEL    only what a model proposed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from context_svc.errors import ContextSourceForbidden, QuotaExceeded, VersionMismatch

MOST_ITEMS = 1_000
MOST_BYTES = 1024 * 1024
MOST_VALUE_BYTES = 64 * 1024
DEEPEST = 32
DEVICE_PREFIX = "device."
MEMORY_PREFIX = "memory."


class Source(IntEnum):
    """Who wrote an item; the numbers are the contract's."""

    USER = 1
    DEVICE = 2
    TOOL = 3
    MODEL = 4


class Placement(IntEnum):
    """Where an item may be processed; the numbers are the contract's."""

    UNSPECIFIED = 0
    ANY = 1
    LOCAL_ONLY = 2


class ItemState(IntEnum):
    """Whether an item is there, and if not, why; stored."""

    LIVE = 0
    DELETED = 1
    EXPIRED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Whose items: a person's (no session) or one session's."""

    account_id: str
    session_id: str = ""

    @property
    def id(self) -> str:
        """The name of its row."""
        return self.session_id or self.account_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """Who writes. The person's edit keeps an item's turn."""

    source: Source
    device_id: str = ""
    turn_id: str = ""
    action: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What is stored under a key. `value` is compact JSON; times are microseconds since 1970."""

    key: str
    value: str
    source: Source
    version: int
    placement: Placement
    expire_us: int | None
    measure_us: int | None
    create_us: int
    update_us: int
    turn_id: str
    device_id: str
    action: str
    session_id: str = ""

    @property
    def size(self) -> int:
        """What it takes of its scope, in bytes."""
        return _size(self.key, self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemWrite:
    """A new value. None leaves the placement as it was; `expected_version` 0 means that nothing is there."""

    key: str
    value: str
    author: Author
    ttl_us: int | None = None
    placement: Placement | None = None
    expected_version: int | None = None
    measure_us: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tombstone:
    """A key that went."""

    key: str
    version: int
    expired: bool
    delete_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """How full a scope is."""

    items: int
    bytes: int


def may_write(author: Author, existing: Item | None) -> bool:
    """Whether this writer may put something in the place of what is there."""
    if existing is None or author.source is Source.USER:
        return True
    if author.source is Source.DEVICE:
        return existing.source is Source.DEVICE and existing.device_id == author.device_id
    return existing.source is author.source


def merge(
    existing: Mapping[str, Item], writes: Sequence[ItemWrite], *, version: int, now_us: int
) -> tuple[Item, ...]:
    """The items that `writes` make, under the scope's new version, by key.

    A measurement that is older than the stored one is left out. Raises ContextSourceForbidden, and
    VersionMismatch with the item's version as `current`.
    """
    wanted = sorted(writes, key=lambda each: each.key)
    return tuple(
        _written(existing.get(each.key), each, version, now_us)
        for each in wanted
        if not _outdated(existing.get(each.key), each)
    )


def filled(before: Filling, gone: Sequence[Item], made: Sequence[Item]) -> Filling:
    """How full a scope is once `made` took the place of `gone`. Raises QuotaExceeded when that is too much."""
    after = Filling(
        items=before.items - len(gone) + len(made),
        bytes=before.bytes - sum(each.size for each in gone) + sum(each.size for each in made),
    )
    if after.items > MOST_ITEMS and after.items > before.items:
        raise QuotaExceeded(quota="context keys of a scope")
    if after.bytes > MOST_BYTES and after.bytes > before.bytes:
        raise QuotaExceeded(quota="context bytes of a scope")
    return after


def _written(existing: Item | None, write: ItemWrite, version: int, now_us: int) -> Item:
    author = write.author
    if not may_write(author, existing):
        raise ContextSourceForbidden
    stored = existing.version if existing else 0
    if write.expected_version not in (None, stored):
        raise VersionMismatch(metadata={"current": str(stored)})
    kept = existing.placement if existing else Placement.ANY
    return Item(
        key=write.key,
        value=write.value,
        source=author.source,
        version=version,
        placement=write.placement or kept,
        expire_us=None if write.ttl_us is None else now_us + write.ttl_us,
        measure_us=write.measure_us,
        create_us=existing.create_us if existing else now_us,
        update_us=now_us,
        turn_id=author.turn_id or (existing.turn_id if existing else ""),
        device_id=author.device_id,
        action=author.action,
    )


def _outdated(existing: Item | None, write: ItemWrite) -> bool:
    if existing is None or existing.measure_us is None or write.measure_us is None:
        return False
    return write.measure_us < existing.measure_us


def _size(key: str, value: str) -> int:
    return len(key) + len(value.encode())
