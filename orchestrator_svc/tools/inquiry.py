"""Asking a service for an action: its reply as a typed value, or a ToolFailure that says what went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from typing import TypeVar

import msgspec

from orchestrator_svc.egress.failures import (
    EgressFailure,
    Garbled,
    Refused,
    TooLarge,
    TooSlow,
)
from orchestrator_svc.egress.web import Reply
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Output, Setting, ToolFailure

T = TypeVar("T")


async def reply(asking: Awaitable[Reply], *, name: str, also: Container[int] = ()) -> Reply:
    """The reply of the service called `name`, if it is one of success or of the statuses `also`.

    Raises ToolFailure.
    """
    try:
        answer = await asking
    except EgressFailure as error:
        raise failure(error, name) from error
    if answer.status == 200 or answer.status in also:
        return answer
    match answer.status:
        case 401 | 403:
            raise ToolFailure(f"{name} refuses our request or key.", reason=Reason.PROVIDER_REFUSED)
        case 429:
            raise _failed(f"{name} limits our requests; try later.", Reason.PROVIDER_LIMITED)
        case status if status >= 500:
            raise _failed(f"{name} has a fault of its own (HTTP {status}).", Reason.PROVIDER_FAILED)
        case status:
            message = f"{name} does not take this request (HTTP {status})."
            raise ToolFailure(message, reason=Reason.PROVIDER_REFUSED)


async def value(asking: Awaitable[Reply], into: type[T], *, name: str, also: Container[int] = ()) -> T:
    """What the service called `name` says, as JSON of the shape `into`. Raises ToolFailure."""
    answer = await reply(asking, name=name, also=also)
    try:
        return msgspec.json.decode(answer.body, type=into)
    except (msgspec.DecodeError, RecursionError) as error:
        raise garbage(name) from error


def garbage(name: str) -> ToolFailure:
    """The failure of a service that answered what cannot be read."""
    return _failed(f"{name} answered what cannot be read.", Reason.PROVIDER_GARBAGE)


def failure(error: EgressFailure, name: str) -> ToolFailure:
    """An egress failure in the words of an action."""
    match error:
        case Refused():
            return ToolFailure(f"{name} is not asked: {error}.", reason=Reason.ACTION_FORBIDDEN)
        case TooSlow():
            return _failed(f"{name} does not answer in time.", Reason.PROVIDER_TIMEOUT)
        case TooLarge():
            return ToolFailure(f"{name}: {error}.", reason=Reason.RESULT_TOO_LARGE)
        case Garbled():
            return garbage(name)
        case _:
            return _failed(f"{name} cannot be reached.", Reason.PROVIDER_FAILED)


def absent(message: str) -> Callable[[object, Setting], Awaitable[Output]]:
    """What an action does that nobody turned on: fail with `message`, which says how to."""

    async def perform(arguments: object, setting: Setting) -> Output:
        raise not_configured(message)

    return perform


def not_configured(message: str, *, field: str = "") -> ToolFailure:
    """The failure of an action that nobody turned on. `message` says how to."""
    return ToolFailure(message, reason=Reason.ACTION_NOT_CONFIGURED, field=field)


def _failed(message: str, reason: Reason) -> ToolFailure:
    return ToolFailure(message, reason=reason, retryable=True)
