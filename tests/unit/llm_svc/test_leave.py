"""For whom a run may be opened."""

from __future__ import annotations

import pytest

from chassis.call import Caller, Grant, RoomCaller, User
from chassis.errors import GrantInvalid
from llm_svc.frames import Start
from llm_svc.generation import Parameters, Placement, Request
from llm_svc.leave import require

pytestmark = pytest.mark.requirement("SAFE-1")

AGENT, EYE = RoomCaller(name="orchestrator"), RoomCaller(name="media")
FOR_ADA = RoomCaller(name="orchestrator", grant=Grant(account="ada", kind="turn", work="t1", session="s1"))


def run(
    *,
    turn: str = "t1",
    account: str = "",
    session: str = "",
    placement: Placement = Placement.ANY,
    max_cost: int | None = None,
    tokens: int | None = None,
) -> Start:
    request = Request(
        model="m",
        messages=(),
        session=session,
        placement=placement,
        parameters=Parameters(max_output_tokens=tokens),
    )
    return Start(request=request, turn=turn, cache_account=account, max_cost=max_cost)


WARM_UP = run(turn="warm-up", placement=Placement.LOCAL_ONLY, tokens=1)


@pytest.mark.parametrize(
    ("caller", "start"),
    [
        pytest.param(FOR_ADA, run(), id="the turn of the grant"),
        pytest.param(FOR_ADA, run(account="ada", session="s1"), id="with its person and session"),
        pytest.param(EYE, run(turn="", max_cost=100), id="a picture at a stated price"),
        pytest.param(AGENT, WARM_UP, id="what every conversation begins with"),
    ],
)
def test_a_run_may_be_opened(caller: Caller, start: Start) -> None:
    require(start, caller)


@pytest.mark.parametrize(
    ("caller", "start"),
    [
        pytest.param(FOR_ADA, run(turn="t2"), id="another turn"),
        pytest.param(FOR_ADA, run(turn=""), id="no turn"),
        pytest.param(FOR_ADA, run(account="bob"), id="another person"),
        pytest.param(FOR_ADA, run(session="s2"), id="another session"),
        pytest.param(AGENT, run(), id="a turn without a grant"),
        pytest.param(AGENT, run(placement=Placement.LOCAL_ONLY, tokens=2), id="more than a warm-up"),
        pytest.param(AGENT, run(tokens=1), id="a warm-up of a remote model"),
        pytest.param(
            AGENT, run(placement=Placement.LOCAL_ONLY, tokens=1, session="s1"), id="a warm-up of a session"
        ),
        pytest.param(EYE, run(), id="a picture without a price"),
        pytest.param(EYE, run(max_cost=1, account="ada"), id="a picture for a person"),
        pytest.param(EYE, run(max_cost=1, session="s1"), id="a picture of a session"),
        pytest.param(
            User(account="ada", sign_in="s", scopes=frozenset(), expires_at_us=0), run(), id="a person"
        ),
        pytest.param(None, run(), id="nobody"),
    ],
)
def test_a_run_without_leave_is_refused(caller: Caller | None, start: Start) -> None:
    with pytest.raises(GrantInvalid):
        require(start, caller)
