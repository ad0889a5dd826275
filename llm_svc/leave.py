"""What may be generated for whom: a turn with its grant, a picture for media_svc, a standing prefix for nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from chassis.call import Caller, Grant, RoomCaller
from chassis.errors import GrantInvalid
from llm_svc.frames import Frame, Start
from llm_svc.generation import Placement

_LOOKS_AT_PICTURES = "media"
_WARM_UP_TOKENS = 1


async def checked(frames: AsyncIterator[Frame], caller: Caller | None) -> AsyncIterator[Frame]:
    """The same frames. Raises GrantInvalid in place of an opening that the caller has no leave for."""
    async for frame in frames:
        if isinstance(frame, Start):
            require(frame, caller)
        yield frame


def all_checked(starts: Sequence[Start], caller: Caller | None) -> Sequence[Start]:
    """The same openings. Raises GrantInvalid when the caller has no leave for one of them."""
    for start in starts:
        require(start, caller)
    return starts


def require(start: Start, caller: Caller | None) -> None:
    """Raise GrantInvalid when this run is not the caller's to open.

    A grant is for one turn of one person, so the run may name nobody else's. Without one a run may name nobody:
    media_svc may have a picture described at a price it states, and orchestrator_svc may let a local model read
    what every conversation begins with, for an answer of one token.
    """
    match caller:
        case RoomCaller(grant=Grant() as grant):
            if not _is_of(start, grant):
                raise GrantInvalid("a grant for something else", metadata={"grant": "invalid"})
        case RoomCaller(name=name) if not start.cache_account and not start.request.session:
            allowed = start.max_cost is not None if name == _LOOKS_AT_PICTURES else _is_warm_up(start)
            if not allowed:
                raise GrantInvalid(f"{name} has no leave", metadata={"grant": "missing"})
        case _:
            raise GrantInvalid("for a person without leave", metadata={"grant": "missing"})


def _is_of(start: Start, grant: Grant) -> bool:
    named = start.cache_account in ("", grant.account) and start.request.session in ("", grant.session)
    return named and start.turn == grant.work


def _is_warm_up(start: Start) -> bool:
    request = start.request
    return (
        request.placement is Placement.LOCAL_ONLY and request.parameters.max_output_tokens == _WARM_UP_TOKENS
    )
