"""What a turn may do: which actions it gets, and which of them ask first. Decided here, never by a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator_svc.conversation import Described, Message, Part, Role, Text, ToolCall, ToolResult, Trust
from orchestrator_svc.material import Material, Order, Purpose
from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.tools.tool import Effect, Schema


class Cause(Enum):
    """Why an action asks."""

    EFFECT = "effect"
    UNTRUSTED_CONTENT = "untrusted_content"
    SETTING = "setting"


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An action that a turn may use. `hosted` ones are performed by context_svc."""

    spec: ToolSpec
    agent: str
    effect: Effect
    schema: Schema
    timeout: float = 30.0
    hosted: bool = False
    ready: bool = True

    @property
    def name(self) -> str:
        """The action's name."""
        return self.spec.name


def offered(offers: Iterable[Offer], order: Order) -> dict[str, Offer]:
    """The actions this turn gets, by name, in the order of their names.

    A model is offered what is configured, and always the same list unless the order narrows it: an engine
    keeps what it read of it. A direct call may name any action; one that is not ready says so itself.
    """
    known = {offer.name: offer for offer in sorted(offers, key=lambda offer: offer.name)}
    match order.purpose:
        case Purpose.ACTION:
            return known
        case Purpose.ANSWER if not order.without_actions:
            wanted = order.only_actions or known
            return {name: offer for name, offer in known.items() if offer.ready and name in wanted}
        case _:
            return {}


def asks(offer: Offer, arguments: str, *, tainted: bool, said: str, approved: bool) -> Cause | None:
    """Why this call must ask the person first, or None.

    ========== =================================================================================
    NONE       never
    READS_OUT  when untrusted content is in the turn and the arguments hold text nobody typed
    EFFECT     always, unless the person's program agreed to this very call
    ========== =================================================================================
    """
    if approved:
        return None
    match offer.effect:
        case Effect.NONE:
            return None
        case Effect.READS_OUT:
            return Cause.UNTRUSTED_CONTENT if tainted and not typed(arguments, said) else None
        case Effect.EFFECT:
            return Cause.EFFECT


def taints(offer: Offer) -> bool:
    """Whether a result of this action is content that others may have written."""
    return offer.effect is not Effect.NONE or offer.hosted


def tainted(material: Material, steps: Sequence[Message], offers: Mapping[str, Offer]) -> bool:
    """Whether a turn begins with content that others may have written: facts, files, results of actions."""
    if any(fact.trust is Trust.UNTRUSTED for fact in material.facts):
        return True
    parts = [part for message in (*material.messages, *steps) for part in message.parts]
    return any(_foreign(part, offers) for part in parts)


def _foreign(part: Part, offers: Mapping[str, Offer]) -> bool:
    content = part.content
    if isinstance(content, ToolResult):
        return content.action not in offers or taints(offers[content.action])
    return isinstance(content, Described) and part.trust is Trust.UNTRUSTED


def typed(arguments: str, said: str) -> bool:
    """Whether every piece of text in the arguments stands in what the person typed."""
    heard = said.casefold()
    return all(text.casefold().strip() in heard for text in _texts(json.loads(arguments or "{}")))


def persons_words(material: Material, action: ToolCall | None = None) -> str:
    """What the person typed, in all messages of the turn and in an action that they asked for themselves."""
    parts = (part for message in material.messages if message.role is Role.USER for part in message.parts)
    given = _texts(_decoded(action.arguments)) if action is not None else ()
    return "\n".join((*(part.content.text for part in parts if isinstance(part.content, Text)), *given))


def _decoded(arguments: str) -> object:
    try:
        return json.loads(arguments or "{}")
    except (ValueError, RecursionError):  # nothing of it will run
        return None


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)
        case _:
            return
