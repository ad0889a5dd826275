"""remember and recall: what the person wants kept of themselves, as memories that they see, edit and delete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Unit
from context_svc.errors import ActionForbidden, QuotaExceeded
from context_svc.hosting import Act, Asked, Told, refused, text
from context_svc.item_rows import Selection, live
from context_svc.items import MEMORY_PREFIX, Author, Item, ItemWrite, Placement, Scope, Source
from context_svc.memories import LONGEST, MOST, Put, StaysHere, Wanted, unknown
from context_svc.words import words

SHOWN = 20


class Remember:
    """Keeps a memory, word for word as it was given; one that is there already is not kept twice."""

    name = "remember"

    def __init__(self, put: Put, wanted: Wanted, stays_here: StaysHere) -> None:
        self._put = put
        self._wanted = wanted
        self._stays_here = stays_here

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid and ActionForbidden."""
        said = " ".join(text(asked, "text").split())
        if len(said) > LONGEST:
            raise refused("text", f"must have at most {LONGEST} characters")
        material = asked.material
        if not self._wanted(material.settings, material.known.stored):
            raise ActionForbidden("memory is turned off")
        local = self._stays_here(material.settings, material.branch.messages)
        return lambda now_us: self._keep(asked, said, local, now_us)

    def _keep(self, asked: Asked, said: str, local: bool, now_us: int) -> Unit[Told]:
        scope = Scope(account_id=asked.claim.account_id)
        there = yield from live(scope, Selection(prefix=MEMORY_PREFIX), now_us)
        if not unknown([said], there):
            return Told(content="That is remembered already.")
        if len(there) >= MOST:
            raise QuotaExceeded(quota="memories")
        write = ItemWrite(
            key=f"{MEMORY_PREFIX}{ids.uuid()}",
            value=json.dumps({"text": said}, ensure_ascii=False, separators=(",", ":")),
            author=Author(source=Source.MODEL, turn_id=asked.claim.turn_id, action=self.name),
            placement=Placement.LOCAL_ONLY if local else Placement.ANY,
        )
        then = yield from self._put(scope, [write], now_us)
        return Told(content=f"Remembered: {said}", context_keys=(write.key,), thens=(then,))


class Recall:
    """Finds memories by their words, the newest first. One that stays on these machines is no result."""

    name = "recall"

    def __init__(self, database: Database, clock: Clock, wanted: Wanted) -> None:
        self._database = database
        self._clock = clock
        self._wanted = wanted

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid and ActionForbidden."""
        query = text(asked, "query", default="")
        material = asked.material
        if not self._wanted(material.settings, material.known.stored):
            raise ActionForbidden("memory is turned off")
        return lambda now_us: self._find(asked, query, now_us)

    def _find(self, asked: Asked, query: str, now_us: int) -> Unit[Told]:
        scope = Scope(account_id=asked.claim.account_id)
        there = yield from live(scope, Selection(prefix=MEMORY_PREFIX), now_us)
        return Told(
            content=told([each for each in there if each.placement is not Placement.LOCAL_ONLY], query)
        )


def told(memories: Sequence[Item], query: str) -> str:
    """The memories that share most words with the query; without one that does, and without a query, the newest."""
    if not memories:
        return "Nothing is remembered."
    said = {each.key: _text(each) for each in memories}
    wanted = _stems(query)
    newest = sorted(memories, key=lambda each: each.update_us, reverse=True)
    ranked = sorted(newest, key=lambda each: len(wanted & _stems(said[each.key])), reverse=True)
    fitting = [each for each in ranked if wanted & _stems(said[each.key])]
    return "\n".join(f"- {said[each.key]}" for each in (fitting or newest)[:SHOWN])


def _text(item: Item) -> str:
    value = json.loads(item.value)
    return str(value.get("text", "")) if isinstance(value, dict) else str(value)


def _stems(said: str) -> set[str]:
    """The beginnings of its longer words: "allergic" finds "allergies"."""
    return {word[:6] for word in _folded(each.text for each in words(said)) if len(word) > 2}


def _folded(said: Iterable[str]) -> Iterable[str]:
    return (each.casefold() for each in said)
