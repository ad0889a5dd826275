"""Which of the actions that a turn may use its model is offered: all while there is room, then those it needs.

Policy comes first: what it does not allow is not known here. Of the rest the built-in actions are always offered,
and all others too while they fit. When they do not, those are offered that the conversation needed, read from its
beginning: what was called, what `find_tools` found, what the person's words describe. So the same conversation
always has the same actions, and one more message changes little: what is new goes to the end of the list, and only
when the room is full what was needed longest ago makes way, half a room at once, what was called last of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from orchestrator_svc.conversation import Message, Role, Text, ToolCall, Trust
from orchestrator_svc.errors import Reason
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.inputs import Failed
from orchestrator_svc.policy import Offer
from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.relevance import Relevance, relevance
from orchestrator_svc.tools import find_tools
from orchestrator_svc.tools.tool import Found

_OFFERED_NEXT = "It was not among the actions on offer. Now it is: call it again, as its schema says."
_TOO_LONG = "Its description is longer than this model has room for. Look for another with find_tools."
_LEAST = 4  # so many beside the built-in actions, however small the limit
_LONGEST_SHARE = 4  # one action takes at most this part of what the model reads
_BY_WORDS = 4  # actions that one message may add by its words
_LIKE_THE_BEST, _NEAR_THE_BEST = 0.5, 0.25  # share of the best score: by the person's words, in a search


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a model is offered at most: so many actions, and their part of the tokens that it reads."""

    actions: int = 24
    share: float = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What there is room for beside the built-in actions. One alone may be as long as `longest`, in tokens."""

    actions: int
    tokens: int
    longest: int

    def holds(self, specs: Sequence[ToolSpec]) -> bool:
        """Whether all of them fit."""
        return len(specs) <= self.actions and sum(map(_tokens, specs)) <= self.tokens

    @property
    def half(self) -> Room:
        """Half of it."""
        return Room(actions=max(1, self.actions // 2), tokens=self.tokens // 2, longest=self.tokens)


def room(limits: Limits, always: Iterable[ToolSpec], context_tokens: int) -> Room:
    """What `limits` leave beside what is `always` offered to a model that reads so many tokens.

    Never less than four actions, and half of the limit's tokens.
    """
    specs = tuple(always)
    tokens = int(limits.share * context_tokens)
    return Room(
        actions=max(_LEAST, limits.actions - len(specs)),
        tokens=max(tokens // 2, tokens - sum(map(_tokens, specs))),
        longest=context_tokens // _LONGEST_SHARE,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Need:
    at: int  # the later, the larger
    called: bool


class Selection:
    """The actions of one turn. It grows by what it is shown, message by message, and depends on nothing else.

    Without `context_tokens` there is no model and no limit.
    """

    def __init__(
        self, allowed: Mapping[str, Offer], limits: Limits | None = None, context_tokens: int = 0
    ) -> None:
        self._ready = {name: offer for name, offer in sorted(allowed.items()) if offer.ready}
        self._always = {name: offer for name, offer in self._ready.items() if not offer.added}
        self._added = {name: offer for name, offer in self._ready.items() if offer.added}
        always = [offer.spec for offer in self._always.values()]
        self._room = room(limits or Limits(), always, context_tokens)
        added = [offer.spec for offer in self._added.values()]
        self.whole = not context_tokens or self._room.holds(added)
        self._needed: dict[str, _Need] = {}

    @property
    def allowed(self) -> dict[str, Offer]:
        """All that may be called, in the order of names; to find more there is only when not all is offered."""
        return {
            name: offer for name, offer in self._ready.items() if not (self.whole and name == find_tools.NAME)
        }

    @property
    def offered(self) -> tuple[Offer, ...]:
        """What the model is offered now: in the order of names, then what was added, in the order it came."""
        if self.whole:
            return tuple(self.allowed.values())
        return (*self._always.values(), *(self._added[name] for name in self._needed))

    def refusal(self, name: str) -> Failed | None:
        """Why a call of the model does not run though the action is allowed: it was not offered its schema.

        To have called it is to need it: it is offered in the next step, if it fits.
        """
        if self.whole or name not in self._added or name in self._needed:
            return None
        fits = _tokens(self._added[name].spec) <= self._room.longest
        return Failed(
            reason=Reason.ACTION_NOT_OFFERED, message=_OFFERED_NEXT if fits else _TOO_LONG, retryable=fits
        )

    def find(self, query: str, limit: int) -> Found:
        """What answers a search, the best first, as far as all of it can be offered together."""
        ranked = self._relevance.ranked(query, least=_NEAR_THE_BEST)
        asked = ranked[:limit]
        fitting = asked if self.whole else (*self._always, *self._fitting(asked, self._room))
        specs = tuple(self._ready[name].spec for name in asked if name in fitting)
        agents = sorted({offer.agent for offer in self._added.values()})
        return Found(specs=specs, more=len(ranked) - len(specs), agents=tuple(agents))

    def see(self, messages: Iterable[Message]) -> None:
        """What was said and done next in the conversation."""
        if self.whole:
            return
        for message in messages:
            for part in message.parts:
                match part.content:
                    case ToolCall(action=find_tools.NAME, arguments=arguments):
                        self._need(self._found(arguments))
                    case ToolCall(action=action):
                        self._need(self._fitting((action,), self._room), called=True)
                    case Text(text=text) if message.role is Role.USER and part.trust is Trust.PERSON:
                        self._need(self._described(text))

    @cached_property
    def _relevance(self) -> Relevance:
        offers = self._ready.values()
        return relevance(tuple(offer.spec for offer in offers if offer.name != find_tools.NAME))

    def _found(self, arguments: str) -> tuple[str, ...]:
        asked = find_tools.wanted(arguments)
        specs = self.find(asked.query, asked.limit).specs if asked else ()
        return tuple(spec.name for spec in specs if spec.name in self._added)

    def _described(self, text: str) -> tuple[str, ...]:
        """What the person's words are about, unless a built-in action is far nearer to them."""
        ranked = self._relevance.ranked(text, least=_LIKE_THE_BEST)
        return tuple(self._fitting(ranked, self._room.half))[:_BY_WORDS]

    def _fitting(self, names: Iterable[str], room: Room) -> Iterator[str]:
        """Those of the names that can be offered together in that room; the first even when it is long."""
        count = tokens = 0
        for name in names:
            if name not in self._added or count == room.actions:
                continue
            size = _tokens(self._added[name].spec)
            if tokens + size <= (room.tokens if count else room.longest):
                count, tokens = count + 1, tokens + size
                yield name

    def _need(self, names: Iterable[str], *, called: bool = False) -> None:
        needed = dict.fromkeys(names)
        fresh = [name for name in needed if name not in self._needed]
        if fresh and not self._room.holds(self._specs((*self._needed, *fresh))):
            self._make_room(needed, fresh)
        at = max((need.at for need in self._needed.values()), default=0) + 1
        for name in needed:
            before = self._needed.get(name)
            self._needed[name] = _Need(at=at, called=called or (before is not None and before.called))

    def _make_room(self, needed: Mapping[str, None], fresh: Sequence[str]) -> None:
        """Let go of what was not called until half is free; of what was called only as much as must be."""
        old = sorted(
            (name for name in self._needed if name not in needed),
            key=lambda name: (self._needed[name].called, self._needed[name].at),
        )
        for name in old:
            goal = self._room if self._needed[name].called else self._room.half
            if goal.holds(self._specs((*self._needed, *fresh))):
                return
            del self._needed[name]

    def _specs(self, names: Iterable[str]) -> list[ToolSpec]:
        return [self._added[name].spec for name in names]


@lru_cache(maxsize=2_048)
def _tokens(spec: ToolSpec) -> int:
    """Tokens of an action as a model is told of it. Never corrected within a turn, so the same ones always fit."""
    return Gauge().text(spec.name + spec.description + spec.schema)
