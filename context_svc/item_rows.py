"""The tables of context items: the statements that read and change them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chassis.database import Row, Statement, Unit, Value
from context_svc.items import Filling, Item, ItemState, Placement, Scope, Source, Tombstone

KEEP_TOMBSTONES_US = 30 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopeRow:
    """Where a scope stands. Tombstones up to `forgotten_version` are gone."""

    version: int = 0
    forgotten_version: int = 0
    filling: Filling = field(default_factory=lambda: Filling(items=0, bytes=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which keys: these, and those that begin with `prefix`; with neither, all."""

    keys: tuple[str, ...] = ()
    prefix: str = ""


def lock(scope: Scope) -> Unit[ScopeRow]:
    """The scope's row, made when missing, held until the commit."""
    rows = yield Statement(
        "INSERT INTO context_scope (id, account_id, session_id) VALUES (:id, :account, :session)"
        " ON CONFLICT (id) DO UPDATE SET version = context_scope.version"
        " RETURNING version, forgotten_version, items, bytes",
        {"id": scope.id, "account": scope.account_id, "session": scope.session_id or None},
    )
    return _scope(rows[0])


def find(scope_id: str) -> Unit[ScopeRow]:
    """The scope as it is; one that nobody wrote yet stands at 0."""
    rows = yield Statement(
        "SELECT version, forgotten_version, items, bytes FROM context_scope WHERE id = :id", {"id": scope_id}
    )
    return _scope(rows[0]) if rows else ScopeRow()


def update(scope_id: str, version: int, filling: Filling) -> Unit[None]:
    """Store the scope's new version and how full it is."""
    yield Statement(
        "UPDATE context_scope SET version = :version, items = :items, bytes = :bytes WHERE id = :id",
        {"version": version, "items": filling.items, "bytes": filling.bytes, "id": scope_id},
    )


def live(scope: Scope, selection: Selection, now_us: int) -> Unit[list[Item]]:
    """The items that are there and have not expired, by key."""
    condition, arguments = _selected(selection)
    rows = yield Statement(
        f"SELECT * FROM context_item WHERE scope_id = :scope AND state = 0{condition}"  # noqa: S608 - names we made
        " AND (expire_us IS NULL OR expire_us > :now) ORDER BY key",
        {"scope": scope.id, "now": now_us, **arguments},
    )
    return [item(row, scope.session_id) for row in rows]


def due(scope_id: str, now_us: int) -> Unit[list[Item]]:
    """The items whose time is over and which nobody has buried yet."""
    rows = yield Statement(
        "SELECT * FROM context_item WHERE scope_id = :scope AND state = 0 AND expire_us <= :now ORDER BY key",
        {"scope": scope_id, "now": now_us},
    )
    return [item(row) for row in rows]


def changed_after(scope_id: str, version: int, limit: int) -> Unit[Sequence[Row]]:
    """At most `limit` rows, live and gone, that changed after `version`, in order of version, then key."""
    return (
        yield Statement(
            "SELECT * FROM context_item WHERE scope_id = :scope AND version > :version"
            " ORDER BY version, key LIMIT :limit",
            {"scope": scope_id, "version": version, "limit": limit},
        )
    )


def store(scope_id: str, items: Iterable[Item]) -> Unit[None]:
    """Put items in the place of whatever their keys held."""
    for each in items:
        yield Statement(
            "INSERT INTO context_item (scope_id, key, state, value, size, source, version, placement, expire_us,"
            " measure_us, create_us, update_us, turn_id, device_id, action) VALUES (:scope, :key, 0, :value,"
            " :size, :source, :version, :placement, :expire, :measure, :created, :updated, :turn, :device,"
            " :action) ON CONFLICT (scope_id, key) DO UPDATE SET state = 0, value = excluded.value,"
            " size = excluded.size, source = excluded.source, version = excluded.version,"
            " placement = excluded.placement, expire_us = excluded.expire_us,"
            " measure_us = excluded.measure_us, create_us = excluded.create_us,"
            " update_us = excluded.update_us, turn_id = excluded.turn_id, device_id = excluded.device_id,"
            " action = excluded.action",
            {
                "scope": scope_id,
                "key": each.key,
                "value": each.value,
                "size": each.size,
                "source": int(each.source),
                "version": each.version,
                "placement": int(each.placement),
                "expire": each.expire_us,
                "measure": each.measure_us,
                "created": each.create_us,
                "updated": each.update_us,
                "turn": each.turn_id,
                "device": each.device_id,
                "action": each.action,
            },
        )


def bury(
    scope_id: str, keys: Sequence[str], state: ItemState, *, version: int, now_us: int
) -> Unit[tuple[Tombstone, ...]]:
    """Leave tombstones in the place of items: nothing of their content stays, nor of answers that held it."""
    for key in keys:
        yield Statement(
            "UPDATE context_item SET state = :state, value = '', size = 0, version = :version,"
            " expire_us = NULL, measure_us = NULL, update_us = :now, turn_id = '', device_id = '', action = ''"
            " WHERE scope_id = :scope AND key = :key",
            {"state": int(state), "version": version, "now": now_us, "scope": scope_id, "key": key},
        )
    if keys:
        yield Statement(
            "UPDATE context_command SET answer = NULL WHERE scope_id = :scope AND answer IS NOT NULL",
            {"scope": scope_id},
        )
    expired = state is ItemState.EXPIRED
    return tuple(Tombstone(key=key, version=version, expired=expired, delete_us=now_us) for key in keys)


def scopes_with_due(now_us: int) -> Unit[list[Scope]]:
    """Scopes that hold items whose time is over, at most 100."""
    rows = yield Statement(
        "SELECT id, account_id, session_id FROM context_scope WHERE id IN (SELECT scope_id FROM context_item"
        " WHERE expire_us IS NOT NULL AND expire_us <= :now LIMIT 100)",
        {"now": now_us},
    )
    return [Scope(account_id=row["account_id"], session_id=row["session_id"] or "") for row in rows]


def forget_tombstones(now_us: int) -> Unit[None]:
    """Remove tombstones older than 30 days; whoever stands before them then gets the whole scope."""
    before = {"before": now_us - KEEP_TOMBSTONES_US}
    rows = yield Statement(
        "SELECT scope_id, MAX(version) AS version FROM context_item WHERE state > 0 AND update_us < :before"
        " GROUP BY scope_id ORDER BY scope_id",
        before,
    )
    for row in rows:
        yield Statement(
            "UPDATE context_scope SET forgotten_version = :version"
            " WHERE id = :id AND forgotten_version < :version",
            {"version": row["version"], "id": row["scope_id"]},
        )
        yield Statement(
            "DELETE FROM context_item WHERE scope_id = :id AND state > 0 AND update_us < :before"
            " AND version <= :version",
            {**before, "id": row["scope_id"], "version": row["version"]},
        )


def item(row: Row, session_id: str = "") -> Item:
    """A live row."""
    return Item(
        key=row["key"],
        value=row["value"],
        source=Source(row["source"]),
        version=row["version"],
        placement=Placement(row["placement"]),
        expire_us=row["expire_us"],
        measure_us=row["measure_us"],
        create_us=row["create_us"],
        update_us=row["update_us"],
        turn_id=row["turn_id"],
        device_id=row["device_id"],
        action=row["action"],
        session_id=session_id,
    )


def tombstone(row: Row) -> Tombstone:
    """A row that is not live."""
    return Tombstone(
        key=row["key"],
        version=row["version"],
        expired=row["state"] == ItemState.EXPIRED,
        delete_us=row["update_us"],
    )


def _selected(selection: Selection) -> tuple[str, dict[str, Value]]:
    conditions: list[str] = []
    arguments: dict[str, Value] = {}
    if selection.keys:
        arguments |= {f"k{index}": key for index, key in enumerate(selection.keys)}
        conditions.append(f"key IN ({', '.join(f':{name}' for name in arguments)})")
    if selection.prefix:
        conditions.append("(key >= :first AND key < :beyond)")
        last = chr(ord(selection.prefix[-1]) + 1)
        arguments |= {"first": selection.prefix, "beyond": selection.prefix[:-1] + last}
    return (f" AND ({' OR '.join(conditions)})" if conditions else ""), arguments


def _scope(row: Row) -> ScopeRow:
    return ScopeRow(
        version=row["version"],
        forgotten_version=row["forgotten_version"],
        filling=Filling(items=row["items"], bytes=row["bytes"]),
    )
