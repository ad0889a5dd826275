"""What a turn may do: which actions it gets, and which of them ask first. Decided here, never by a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator_svc.conversation import (
    Described,
    Message,
    Part,
    Placement,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Trust,
)
from orchestrator_svc.material import Material, Order, Purpose
from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.tools import find_tools
from orchestrator_svc.tools.tool import Effect, Schema
from orchestrator_svc.wording import decoded, free_texts, holds, texts, typed


class Cause(Enum):
    """Why an action asks."""

    EFFECT = "effect"
    UNTRUSTED_CONTENT = "untrusted_content"
    SETTING = "setting"


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An action that a turn may use. The marks are those of `orchestrator_svc.tools.tool.Tool`."""

    spec: ToolSpec
    agent: str
    effect: Effect
    schema: Schema
    timeout: float = 30.0
    hosted: bool = False
    ready: bool = True
    foreign: bool = False
    outside: bool = False
    added: bool = False  # by the operator: a plugin's or a server's
    writes: bool = False
    wordless: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The action's name."""
        return self.spec.name


def offered(offers: Iterable[Offer], order: Order) -> dict[str, Offer]:
    """The actions this turn gets, by name, in the order of their names.

    A model may use what is configured, unless the order narrows it; which of that it is offered, when it is much,
    `selection` decides. A search for actions comes with any of them: it finds nothing else. A direct call may name
    any action; one that is not ready says so itself.
    """
    known = {offer.name: offer for offer in sorted(offers, key=lambda offer: offer.name)}
    match order.purpose:
        case Purpose.ACTION:
            return known
        case Purpose.ANSWER if not order.without_actions:
            wanted = (*order.only_actions, find_tools.NAME) if order.only_actions else known
            return {name: offer for name, offer in known.items() if offer.ready and name in wanted}
        case _:
            return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What decides about every call of a turn.

    `said`: what the person typed and now asks for. `tainted`: others may have written a part of what the model
    reads. `confined`: values that must not leave these machines. `local`: nothing leaves unasked. `approved`: the
    person's program agreed to the given call.
    """

    said: str = ""
    tainted: bool = False
    confined: tuple[str, ...] = ()
    local: bool = False
    approved: bool = False


def standing(order: Order, offers: Mapping[str, Offer]) -> Standing:
    """How a turn begins. What another action left behind was not asked for by the person."""
    steps = order.resumption.steps if order.resumption else ()
    marks = {order.material.placement, *(message.placement for message in order.material.messages)}
    return Standing(
        said="" if order.action_left_behind else persons_words(order.material, order.action),
        tainted=order.action_left_behind or tainted(order.material, steps, offers),
        confined=confined(order.material),
        local=Placement.LOCAL_ONLY in marks,
        approved=order.action is not None and order.action_approved and not order.action_left_behind,
    )


def forbids(offer: Offer, arguments: str, stands: Standing) -> bool:
    """Whether the call would carry out what must stay: nobody is asked, it does not run."""
    return offer.effect is not Effect.NONE and holds(arguments, stands.confined)


def asks(offer: Offer, arguments: str, stands: Standing) -> Cause | None:
    """Why this call must ask the person first, or None.

    ========== =================================================================================
    NONE       only what writes: when untrusted content is in the turn, and nobody typed its words
    READS_OUT  when untrusted content is in the turn and the arguments hold text nobody typed;
               in a conversation that stays on these machines, when they hold text at all
    EFFECT     always, unless the person's program agreed to this very call
    ========== =================================================================================

    Words that the action's schema lists (units, kinds) are no text: it can carry nothing out.
    """
    if stands.approved:
        return None
    match offer.effect:
        case Effect.EFFECT:
            return Cause.EFFECT
        case Effect.NONE if not offer.writes:
            return None
    found = list(free_texts(arguments, offer.schema.document, wordless=offer.wordless))
    if stands.tainted and not all(typed(text, stands.said) for text in found):
        return Cause.UNTRUSTED_CONTENT
    return Cause.SETTING if stands.local and found and offer.effect is Effect.READS_OUT else None


def taints(offer: Offer) -> bool:
    """Whether a result of this action is content that others may have written."""
    return offer.foreign or offer.effect is not Effect.NONE or (offer.hosted and not offer.writes)


def tainted(material: Material, steps: Sequence[Message], offers: Mapping[str, Offer]) -> bool:
    """Whether a turn begins with content that others may have written.

    That is: facts nobody stated, a summary, what a model said, files, results of actions, and what a server says of
    the actions that it offers.
    """
    if any(offer.outside for offer in offers.values()):
        return True
    if material.summary is not None or any(fact.trust is Trust.UNTRUSTED for fact in material.facts):
        return True
    earlier = [part for message in material.messages for part in message.parts]
    if any(isinstance(part.content, Text) and part.trust is Trust.UNTRUSTED for part in earlier):
        return True
    parts = [*earlier, *(part for message in steps for part in message.parts)]
    return any(_foreign(part, offers) for part in parts)


def _foreign(part: Part, offers: Mapping[str, Offer]) -> bool:
    content = part.content
    if isinstance(content, ToolResult):
        return content.action not in offers or taints(offers[content.action])
    return isinstance(content, Described) and part.trust is Trust.UNTRUSTED


def persons_words(material: Material, action: ToolCall | None = None) -> str:
    """What the person typed in the message to answer, and in an action that they asked for themselves.

    What they typed before may be a secret by now: it does not speak for a call of today.
    """
    newest = material.messages[-1:]
    parts = (part for message in newest if message.role is Role.USER for part in message.parts)
    given = texts(decoded(action.arguments)) if action is not None else ()
    trusted = (part.content.text for part in parts if isinstance(part.content, Text) and _own(part))
    return "\n".join((*trusted, *given))


def _own(part: Part) -> bool:
    return part.trust is Trust.PERSON


def confined(material: Material) -> tuple[str, ...]:
    """The texts and numbers of facts that must not leave these machines."""
    marked = (fact for fact in material.facts if fact.placement is Placement.LOCAL_ONLY)
    return tuple(text for fact in marked for text in texts(decoded(fact.value_json), numbers=True))
