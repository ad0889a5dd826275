"""The window: what of the material a model is shown, fitted into what it reads.

The system text is fixed. History follows in the order it was said, so that a turn's window begins like the
one before it and an engine need not read it again. What changes from turn to turn (facts, the time) stands at
the very end of the newest message, marked as data.

Nothing is cut until the window is 90 % full; then a summary takes the place of the messages it stands for, if there is
one, and when that is not enough whole messages go, oldest first, down to 60 %. The cut
moves in steps of 30 % of the budget, counted from the first message: it stays while the conversation grows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from orchestrator_svc.conversation import (
    Message,
    Part,
    Placement,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Trust,
    message_bytes,
    said,
    strictest,
)
from orchestrator_svc.errors import WindowTooLong
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.material import Fact, Manner, Material, ModelFacts, Parameters, Summary
from orchestrator_svc.prompt import ToolSpec

FULL, KEPT = 0.9, 0.6
_RESERVED_SHARE = 4  # an answer's reserve is at most this part of what the model reads
_RESERVED = 1_024
_LEFT_OUT = "\n[… left out, too long …]\n"
_FACTS_SHARE = 4  # facts take at most this part of a window
_MEASURED = "device."
_LEAST_RESULT = 64  # tokens of a result that is cut


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What a model is shown."""

    system: str
    messages: tuple[Message, ...]

    @property
    def size(self) -> int:
        """Bytes of its text."""
        return len(self.system.encode()) + sum(map(message_bytes, self.messages))


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What of the conversation a model sees; the three counts add up to all messages there are."""

    kept_messages: int = 0
    summarised_messages: int = 0
    dropped_messages: int = 0
    window_tokens: int = 0
    budget_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A window and what it leaves out."""

    window: Window
    report: Report


def budget_tokens(model: ModelFacts, parameters: Parameters) -> int:
    """Tokens that the model reads, less those kept for its answer."""
    wanted = parameters.max_output_tokens or model.output_tokens or _RESERVED
    return model.context_tokens - min(wanted, model.context_tokens // _RESERVED_SHARE)


def fit(
    *,
    system: str,
    tools: Sequence[ToolSpec],
    material: Material,
    steps: Sequence[Message],
    budget: int,
    gauge: Gauge,
    tells_time: bool = False,
) -> Fitted:
    """Fit the material and this turn's `steps` into `budget` tokens.

    The newest message and every step are always in; results of actions are shortened when they alone are too
    long. With `tells_time` the time of the turn stands among the facts. Raises WindowTooLong when nothing
    more can go.
    """
    newest = _newest(material, tells_time, budget // _FACTS_SHARE, gauge)
    frame = gauge.text(system) + sum(gauge.text(t.name + t.description + t.schema) for t in tools)
    fixed = frame + sum(map(gauge.message, newest))
    lead_room = max(sum(map(gauge.message, _lead(material, each))) for each in (None, material.summary))
    steps = _shortened(steps, budget - fixed - lead_room, gauge)
    fixed += sum(map(gauge.message, steps))
    past = [unfolded(message) for message in material.messages[:-1]]
    sizes = [sum(map(gauge.message, told)) for told in past]
    whole = fixed + sum(map(gauge.message, _lead(material, None))) + sum(sizes)
    summary, covered = _standing(material, nearly_full=whole > int(budget * FULL))
    past, sizes = past[covered:], sizes[covered:]
    lead = _lead(material, summary)
    fixed += sum(map(gauge.message, lead))
    cut = _cut(sizes, fixed, budget)
    total = fixed + sum(sizes[cut:])
    if total > budget:
        raise WindowTooLong(f"{total} tokens into {budget}")
    told = itertools.chain.from_iterable(past[cut:])
    return Fitted(
        window=Window(system=system, messages=(*lead, *told, *newest, *steps)),
        report=Report(
            kept_messages=len(material.messages) - covered - cut,
            summarised_messages=summary.messages if summary else 0,
            dropped_messages=material.dropped_messages + cut,
            window_tokens=total,
            budget_tokens=budget,
        ),
    )


def unfolded(message: Message) -> tuple[Message, ...]:
    """A stored message as the messages of a window: each call followed by its result, no old reasoning.

    A call that has no result (its turn was stopped) is left out: no provider takes it.
    """
    match message.parts:
        case (Part(content=Text()),):  # nearly every message: nothing to unfold
            return (message,)
    answered = {part.content.call_id for part in message.parts if isinstance(part.content, ToolResult)}
    pieces: list[tuple[Role, list[Part]]] = []
    for part in message.parts:
        if isinstance(part.content, Reasoning):
            continue
        if isinstance(part.content, ToolCall) and part.content.call_id not in answered:
            continue
        role = Role.TOOL if isinstance(part.content, ToolResult) else message.role
        if not pieces or pieces[-1][0] is not role:
            pieces.append((role, []))
        pieces[-1][1].append(part)
    return tuple(Message(role=role, parts=tuple(parts)) for role, parts in pieces)


def _standing(material: Material, *, nearly_full: bool) -> tuple[Summary | None, int]:
    """The summary that is used, and how many of the material's messages it stands for.

    While all messages are at hand and there is room for them, none is: they are shown word for word.
    """
    summary = material.summary
    if summary is None or not summary.text:
        return None, 0
    before = [message.id for message in material.messages[:-1]]
    covered = before.index(summary.through) + 1 if summary.through and summary.through in before else 0
    if covered and covered == summary.messages and not nearly_full:
        return None, 0
    return summary, covered


def _cut(sizes: Sequence[int], fixed: int, budget: int) -> int:
    """How many of the oldest messages to leave out."""
    step = max(1, int(budget * (FULL - KEPT)))
    excess = fixed + sum(sizes) - int(budget * FULL)
    goal = -(-excess // step) * step
    cut = 0
    for size in sizes:
        if goal <= 0:
            break
        goal -= size
        cut += 1
    return cut


def _shortened(steps: Sequence[Message], room: int, gauge: Gauge) -> tuple[Message, ...]:
    """The steps with their longest results cut, until they fit into `room` tokens or cannot be cut more."""
    limit = room
    while sum(map(gauge.message, steps)) > room and limit > _LEAST_RESULT:
        limit //= 2
        steps = tuple(_bounded(step, limit, gauge) for step in steps)
    return tuple(steps)


def _bounded(step: Message, limit: int, gauge: Gauge) -> Message:
    return replace(step, parts=tuple(_bounded_part(part, limit, gauge) for part in step.parts))


def _bounded_part(part: Part, limit: int, gauge: Gauge) -> Part:
    content = part.content
    if not isinstance(content, ToolResult) or (tokens := gauge.text(content.content)) <= limit:
        return part
    keep = max(1, len(content.content) * limit // tokens * 2 // 5)
    short = content.content[:keep] + _LEFT_OUT + content.content[-keep:]
    return (
        replace(part, content=replace(content, content=short)) if len(short) < len(content.content) else part
    )


def _lead(material: Material, summary: Summary | None) -> tuple[Message, ...]:
    """What stands before the history and changes seldom: the person's wishes, and the summary as data."""
    parts = [said(wishes)] if (wishes := _wishes(material.manner)) else []
    if summary and summary.text:
        parts.append(said(f"Summary of the conversation so far:\n{summary.text}", Trust.UNTRUSTED))
    return (Message(role=Role.USER, parts=tuple(parts)),) if parts else ()


def _wishes(manner: Manner) -> str:
    named = {
        "language": manner.language,
        "time zone": manner.time_zone,
        "units": manner.units,
        "tone": manner.tone,
        "instructions": manner.instructions,
    }
    lines = [f"{name}: {value}" for name, value in named.items() if value]
    return "\n".join(("How I want to be answered:", *lines)) if lines else ""


def _newest(material: Material, tells_time: bool, room: int, gauge: Gauge) -> tuple[Message, ...]:
    """The message to answer, with the facts of the moment at its end."""
    if not material.messages:
        return ()
    *before, last = unfolded(material.messages[-1]) or (Message(role=Role.USER, parts=()),)
    data = _data(material, tells_time, room, gauge)
    return (*before, replace(last, parts=(*last.parts, *data)))


def _data(material: Material, tells_time: bool, room: int, gauge: Gauge) -> tuple[Part, ...]:
    lines = sorted(_fitting(map(partial(_line, now_us=material.turn_time_us), material.facts), room, gauge))
    if tells_time and material.turn_time_us:
        moment = datetime.fromtimestamp(material.turn_time_us / 1e6, UTC)
        lines.append(f"time: {moment:%Y-%m-%d %H:%M} UTC")
    return (said("\n".join(("Known facts:", *lines)), Trust.UNTRUSTED),) if lines else ()


def _fitting(lines: Iterable[str], room: int, gauge: Gauge) -> Iterator[str]:
    """The lines that fit, the most telling first; a long one leaves its place to those after it."""
    for line in lines:
        if (tokens := gauge.text(line)) <= room:
            room -= tokens
            yield line


def _line(fact: Fact, now_us: int) -> str:
    """A fact as a model reads it. What a device measured says how old it is: it may have moved since."""
    minutes = (now_us - fact.update_us) // 60_000_000
    aged = fact.key.startswith(_MEASURED) and fact.update_us and minutes > 0
    return f"{fact.key}: {fact.value_json}" + (f" ({_age(minutes)} ago)" if aged else "")


def _age(minutes: int) -> str:
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def admitted(material: Material, *, local: bool) -> Material:
    """The material as a model may see it: what must stay on these machines is for a local one alone."""
    if local:
        return material
    shown = tuple(fact for fact in material.facts if fact.placement is not Placement.LOCAL_ONLY)
    return replace(material, facts=shown)


def demanded(material: Material) -> Placement:
    """The strictest mark of what was said. Facts bind a turn only where they are shown: see `admitted`."""
    return strictest(material.placement, *(each.placement for each in material.messages))


def placement(material: Material) -> Placement:
    """The strictest mark of all that the window may hold."""
    return strictest(demanded(material), *(fact.placement for fact in material.facts))


def continues(sent: Window | None, window: Window) -> bool:
    """Whether the window is what was sent, with the last step and its results behind it."""
    return sent is not None and window.messages[:-2] == sent.messages
