"""A store as lines of JSON, and back: the same for both engines, whatever tables a room has.

Tables come in an order in which each one's parents are before it. A table begins with a line
``{"table": …, "columns": […]}``; each row after it is an array, bytes as ``{"bytes": base64}``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chassis.database import Engine, Row, Statement, Unit, Value

PAGE = 500
Write: TypeAlias = Callable[[str], object]
Leave: TypeAlias = Callable[[str, Mapping[str, Value]], bool]
"""Whether a row of a table, and with it every row that refers to it, stays out of the dump."""


class DumpInvalid(Exception):
    """The lines are no dump of these tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A foreign key: these columns name that row of `table`."""

    columns: tuple[str, ...]
    table: str
    named: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class Table:
    """A table as the engine describes it."""

    name: str
    columns: list[str]
    key: list[str]
    references: list[Reference] = field(default_factory=list)


def tables(engine: Engine) -> Unit[list[Table]]:
    """Every table of the store, parents first."""
    found = yield from (_of_sqlite() if engine == "sqlite" else _of_postgres())
    return list(_ordered(found))


def dump(engine: Engine, write: Write, *, without: Collection[str], leave: Leave) -> Unit[dict[str, int]]:
    """Write all rows, one state of the store; how many of each table. The unit changes nothing."""
    counts = {}
    left: dict[tuple[str, tuple[str, ...]], set[tuple[Value, ...]]] = {}
    for table in (yield from tables(engine)):
        if table.name in without:
            continue
        write(json.dumps({"table": table.name, "columns": table.columns}))
        counts[table.name] = 0
        after: tuple[Value, ...] | None = None
        while page := (yield from _page(table, after)):
            for row in page:
                values = {name: row[name] for name in table.columns}
                if leave(table.name, values) or _refers_to_left(table, values, left):
                    _note(table, values, left)
                    continue
                write(json.dumps([_spelled(values[name]) for name in table.columns]))
                counts[table.name] += 1
            after = tuple(page[-1][name] for name in table.key)
    return counts


def load(engine: Engine, lines: Iterable[str], *, keep: Collection[str]) -> Unit[dict[str, int]]:
    """Put a dump in the place of all rows but those of the tables of `keep`. Raises DumpInvalid."""
    known = {table.name: table for table in (yield from tables(engine))}
    for table in reversed(known.values()):
        if table.name not in keep:
            yield Statement(f"DELETE FROM {table.name}")  # noqa: S608 - the engine's own names
    counts: dict[str, int] = {}
    for name, values in rows(lines):
        if name in keep:
            continue
        if name not in known or not set(values) <= set(known[name].columns):
            raise DumpInvalid(f"unknown table or columns: {name}")
        counts[name] = counts.get(name, 0) + 1
        yield Statement(_insert(name, tuple(values)), values)
    return counts


def rows(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Value]]]:
    """Each row of a dump with its table. Raises DumpInvalid."""
    name, columns = "", list[str]()
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError as error:
            raise DumpInvalid("a line is not JSON") from error
        match told:
            case {"table": str(name), "columns": [*columns]}:
                continue
            case [*values] if name and len(values) == len(columns):
                yield name, {column: _read(value) for column, value in zip(columns, values, strict=True)}
            case _:
                raise DumpInvalid("a line is neither a table nor a row of it")


def _insert(name: str, columns: tuple[str, ...]) -> str:
    places = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - checked against the engine


def _page(table: Table, after: tuple[Value, ...] | None) -> Unit[Sequence[Row]]:
    key = ", ".join(table.key)
    where, arguments = "", {}
    if after is not None:
        places = ", ".join(f":after{index}" for index in range(len(after)))
        where = f" WHERE ({key}) > ({places})"
        arguments = {f"after{index}": value for index, value in enumerate(after)}
    sql = f"SELECT {', '.join(table.columns)} FROM {table.name}{where} ORDER BY {key} LIMIT {PAGE}"  # noqa: S608
    return (yield Statement(sql, arguments))


def _refers_to_left(
    table: Table,
    values: Mapping[str, Value],
    left: Mapping[tuple[str, tuple[str, ...]], set[tuple[Value, ...]]],
) -> bool:
    return any(
        tuple(values[column] for column in each.columns) in left.get((each.table, each.named), ())
        for each in table.references
    )


def _note(
    table: Table,
    values: Mapping[str, Value],
    left: dict[tuple[str, tuple[str, ...]], set[tuple[Value, ...]]],
) -> None:
    key = tuple(table.key)
    left.setdefault((table.name, key), set()).add(tuple(values[name] for name in key))


def _spelled(value: Value) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def _read(value: Any) -> Value:
    if isinstance(value, dict):
        try:
            return base64.b64decode(value["bytes"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise DumpInvalid("a value is neither plain nor bytes") from error
    if value is None or isinstance(value, str | int | float):
        return value
    raise DumpInvalid("a value is neither plain nor bytes")


def _ordered(found: Sequence[Table]) -> Iterator[Table]:
    waiting, placed = list(found), set[str]()
    while waiting:
        ready = [
            table
            for table in waiting
            if all(each.table in placed or each.table == table.name for each in table.references)
        ]
        assert ready, "tables that refer to each other in a circle"
        for table in ready:
            yield table
            placed.add(table.name)
        waiting = [table for table in waiting if table.name not in placed]


def _of_sqlite() -> Unit[list[Table]]:
    names = yield Statement(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        " AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT IN (SELECT name FROM pragma_table_list"
        " WHERE type = 'shadow') ORDER BY name"
    )
    found = []
    for row in names:
        columns = yield Statement(
            "SELECT name, pk FROM pragma_table_info(:name) ORDER BY cid", {"name": row["name"]}
        )
        foreign = yield Statement(
            'SELECT id, "table" AS target, "from" AS own, "to" AS named FROM pragma_foreign_key_list(:name)'
            " ORDER BY id, seq",
            {"name": row["name"]},
        )
        key = [each["name"] for each in sorted(columns, key=lambda each: each["pk"]) if each["pk"]]
        found.append(
            Table(
                name=row["name"],
                columns=[each["name"] for each in columns],
                key=key,
                references=_grouped(foreign),
            )
        )
    return found


def _of_postgres() -> Unit[list[Table]]:
    columns = yield Statement(
        "SELECT c.relname AS name, a.attname AS col,"
        " coalesce(array_position(CAST(i.indkey AS int2[]), a.attnum), -1) AS pk"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " AND a.attgenerated = '' LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary"
        " WHERE c.relnamespace = to_regnamespace(current_schema()) AND c.relkind = 'r'"
        " ORDER BY c.relname, a.attnum"
    )
    foreign = yield Statement(
        "SELECT k.conname AS id, c.relname AS name, f.relname AS target, a.attname AS own, b.attname AS named"
        " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class f ON f.oid = k.confrelid"
        " CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(own, named, seq)"
        " JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own"
        " JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.named"
        " WHERE k.contype = 'f' AND k.connamespace = to_regnamespace(current_schema())"
        " ORDER BY c.relname, k.conname, u.seq"
    )
    found: dict[str, Table] = {}
    keys: dict[str, dict[int, str]] = {}
    for row in columns:
        found.setdefault(row["name"], Table(name=row["name"], columns=[], key=[])).columns.append(row["col"])
        if row["pk"] >= 0:
            keys.setdefault(row["name"], {})[row["pk"]] = row["col"]
    for name, table in found.items():
        table.key = [column for _, column in sorted(keys.get(name, {}).items())]
        table.references = _grouped([row for row in foreign if row["name"] == name])
    return list(found.values())


def _grouped(foreign: Sequence[Row]) -> list[Reference]:
    groups: dict[object, list[Row]] = {}
    for row in foreign:
        groups.setdefault(row["id"], []).append(row)
    return [
        Reference(
            columns=tuple(each["own"] for each in group),
            table=group[0]["target"],
            named=tuple(each["named"] for each in group),
        )
        for group in groups.values()
    ]
