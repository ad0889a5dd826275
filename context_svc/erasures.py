"""What was erased, so that a restore from an older backup erases it again.

The store notes every erasure itself, by triggers. The same notes lie beside the backups, for a restore onto a machine
that has lost its store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from enum import IntEnum
from pathlib import Path

from chassis.database import Statement, Unit
from chassis.whole import write_whole
from context_svc import session_rows
from context_svc.clearing import relabel, remove

FILE = "erasures.jsonl"
KEPT_US = 8 * 86_400_000_000  # longer than any backup


class Erased(IntEnum):
    """What can be erased. The numbers are stored."""

    ACCOUNT = 1
    SESSION = 2
    LOG = 3
    ITEM = 4


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erasure. `through` is the last sequence that went, for a log; the time is in microseconds since 1970."""

    kind: Erased
    id: str
    through: int
    create_us: int


def since(moment_us: int) -> Unit[list[Erasure]]:
    """Every erasure after a moment, in order."""
    rows = yield Statement(
        "SELECT kind, id, through, create_us FROM erasure WHERE create_us > :moment"
        " ORDER BY create_us, kind, id",
        {"moment": moment_us},
    )
    return [Erasure(Erased(row["kind"]), row["id"], row["through"], row["create_us"]) for row in rows]


def epoch() -> Unit[int]:
    """When something was erased last, context items apart: what was kept before may hold what is gone."""
    rows = yield Statement(
        "SELECT create_us FROM erasure WHERE kind < 4 ORDER BY create_us DESC LIMIT 1",
    )
    return int(rows[0]["create_us"]) if rows else 0


def replace_all(erasures: Iterable[Erasure]) -> Unit[None]:
    """Part of a unit: these are the erasures that are remembered."""
    yield Statement("DELETE FROM erasure")
    for each in erasures:
        yield Statement(
            "INSERT INTO erasure (kind, id, through, create_us) VALUES (:kind, :id, :through, :create)"
            " ON CONFLICT (kind, id) DO NOTHING",
            {"kind": int(each.kind), "id": each.id, "through": each.through, "create": each.create_us},
        )


def forget(before_us: int) -> Unit[None]:
    """Forget erasures that no backup is older than."""
    yield Statement("DELETE FROM erasure WHERE create_us < :before", {"before": before_us})


def apply(erasures: Iterable[Erasure]) -> Unit[int]:
    """Part of a unit: erase again; how many found something."""
    count = 0
    for each in erasures:
        count += yield from _apply(each)
    return count


def _apply(erasure: Erasure) -> Unit[bool]:
    match erasure.kind:
        case Erased.ACCOUNT | Erased.SESSION:
            table = "account" if erasure.kind is Erased.ACCOUNT else "session"
            rows = yield Statement(
                f"DELETE FROM {table} WHERE id = :id RETURNING id",  # noqa: S608 - our names
                {"id": erasure.id},
            )
            return bool(rows)
        case Erased.LOG:
            return (yield from _apply_log(erasure))
        case Erased.ITEM:
            return (yield from _apply_item(erasure))


def _apply_log(erasure: Erasure) -> Unit[bool]:
    rows = yield Statement("SELECT * FROM session WHERE id = :id", {"id": erasure.id})
    if not rows or rows[0]["first_sequence"] > erasure.through:
        return False
    session = session_rows.from_row(rows[0])
    through = min(erasure.through, session.last_sequence)
    yield from remove(session.id, through)
    yield from relabel(session, through)
    return True


def _apply_item(erasure: Erasure) -> Unit[bool]:
    scope, _, key = erasure.id.partition("/")
    rows = yield Statement(
        "DELETE FROM context_item WHERE scope_id = :scope AND key = :key AND state = 0 RETURNING size",
        {"scope": scope, "key": key},
    )
    if rows:
        yield Statement(
            "UPDATE context_scope SET items = items - 1, bytes = bytes - :size WHERE id = :scope",
            {"size": rows[0]["size"], "scope": scope},
        )
    return bool(rows)


class ErasureFile:
    """The notes beside the backups. Ids alone, one a line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def write(self, erasures: Iterable[Erasure]) -> None:
        """Make the file hold these."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._path, "".join(json.dumps(astuple(each)) + "\n" for each in erasures).encode())

    def read(self) -> list[Erasure]:
        """What the file holds; nothing when there is none."""
        if not self._path.exists():
            return []
        found = map(json.loads, self._path.read_text().splitlines())
        return [
            Erasure(Erased(kind), str(id), int(through), int(create)) for kind, id, through, create in found
        ]
