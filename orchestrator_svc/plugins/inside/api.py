"""Actions as typed functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., object])

EFFECTS = ("none", "reads_out", "effect")


class Failure(Exception):
    """The action failed. The words go to the person and the model; `field` names the argument at fault."""

    def __init__(self, message: str, *, field: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retryable = retryable


@dataclass(frozen=True)
class Answer:
    """A result with more than words.

    `sources` are of the form {"title", "uri", "snippet", "publisher"}, all optional; `context_updates` are
    values by key; `next_actions` and `background_tasks` are of the form {"action", "parameters"}.
    """

    result: object
    sources: Sequence[Mapping[str, str]] = ()
    context_updates: Mapping[str, object] = field(default_factory=dict)
    next_actions: Sequence[object] = ()
    background_tasks: Sequence[object] = ()


@dataclass(frozen=True)
class Call:
    """The call that is answered, for a function that has a parameter of this type.

    `context` holds the declared context items that the person shares; `now` is the time in seconds since 1970.
    """

    context: Mapping[str, object]
    now: float
    language: str
    time_zone: str
    progress: Callable[[str, float | None], None]


@dataclass(frozen=True)
class Marked:
    """What `action` noted of a function."""

    name: str
    description: str
    effect: str | None
    timeout: float
    consents: tuple[str, ...]
    context: tuple[str, ...]


def action(
    *,
    name: str = "",
    description: str = "",
    effect: str | None = None,
    timeout: float = 30.0,
    consents: Sequence[str] = (),
    context: Sequence[str] = (),
) -> Callable[[F], F]:
    """Make a typed function an action.

    `description` is for the model, the docstring by default. `effect` is "none", "reads_out" (arguments leave
    the machine) or "effect" (asks first). `context` names the context items that it is given. `timeout` is in
    seconds.
    """
    if effect is not None and effect not in EFFECTS:
        raise ValueError(f"effect is one of {', '.join(EFFECTS)}")

    def mark(function: F) -> F:
        told = description or " ".join((function.__doc__ or "").split())
        noted = Marked(
            name=name or function.__name__,
            description=told,
            effect=effect,
            timeout=timeout,
            consents=tuple(consents),
            context=tuple(context),
        )
        setattr(function, "__action__", noted)  # noqa: B010 - a function has no such attribute for the checker
        return function

    return mark


def marked(found: Any) -> Marked | None:
    """What `action` noted of a thing, if it did."""
    noted = getattr(found, "__action__", None) if callable(found) else None
    return noted if isinstance(noted, Marked) else None
