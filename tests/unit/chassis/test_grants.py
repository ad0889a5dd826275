"""Leave to act for a person: what a callee asks of a room beside its key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.access import Audience, Policy
from chassis.auth import GRANT, Authenticator, Revocations, RoomIdentity, grant_verifier, room_issuer
from chassis.call import Call, Grant, RoomCaller, User
from chassis.errors import CallerNotAllowed, FeedLost, GrantInvalid, TokenMissing
from chassis.keys import KeySet, to_jwk
from chassis.testing import FakeClock
from chassis.tokens import GRANT_TOKEN, ROOM_TOKEN, USER_TOKEN, Signer, Verifier

pytestmark = pytest.mark.requirement("SAFE-1")

ISSUER = "mesh"
ACTS = Policy(
    audience=Audience.ROOM,
    deadline=None,
    callers=frozenset({"agent", "eye"}),
    grants={"agent": "task"},
)
FOR_PEOPLE_TOO = Policy(
    audience=Audience.USER, deadline=None, callers=frozenset({"agent"}), grants={"agent": "task"}
)


class Callee:
    """The room `store`, which two rooms call: `agent` for people, `eye` for itself."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.revocations = Revocations(self.clock)
        self.revocations.seen()
        self.signer = Signer(Ed25519PrivateKey.generate(), "g1", ISSUER)
        self.people = Signer(Ed25519PrivateKey.generate(), "u1", ISSUER)
        signers = {name: _room_signer(name) for name in ("agent", "eye")}
        self.rooms = {name: RoomIdentity(name, each, self.clock) for name, each in signers.items()}
        rooms = KeySet([to_jwk(each.key_id, each.public_key) for each in signers.values()])
        grants = KeySet([to_jwk("g1", self.signer.public_key)])
        users = KeySet([to_jwk("u1", self.people.public_key)])
        self.door = Authenticator(
            Verifier(users, ISSUER, "mesh", USER_TOKEN, self.clock),
            Verifier(rooms, None, "store", ROOM_TOKEN, self.clock, session=False),
            self.revocations,
            self.clock,
            grants=grant_verifier(grants, ISSUER, "store", self.clock),
        )

    def claims(self, **changes: object) -> dict[str, object]:
        now = self.clock.now_us() // 1_000_000
        whole = {"sub": "ada", "aud": "store", "task": "t1", "sid": "s1", "iat": now, "exp": now + 60}
        return {name: value for name, value in {**whole, **changes}.items() if value is not None}

    def grant(self, signer: Signer | None = None, typ: str = GRANT_TOKEN, **changes: object) -> str:
        return (signer or self.signer).sign(self.claims(**changes), typ=typ)

    def enter(self, policy: Policy, *grants: str | bytes, room: str = "agent") -> RoomCaller:
        token = ("authorization", f"Bearer {self.rooms[room].token('store')}")
        caller = self.door.caller([token, *((GRANT, grant) for grant in grants)], policy)
        assert isinstance(caller, RoomCaller)
        return caller


def _room_signer(name: str) -> Signer:
    return Signer(Ed25519PrivateKey.generate(), room_issuer(name), room_issuer(name))


@pytest.fixture
def callee() -> Callee:
    return Callee()


def test_a_room_with_a_grant_acts_for_its_person(callee: Callee) -> None:
    for policy in (ACTS, FOR_PEOPLE_TOO):
        caller = callee.enter(policy, callee.grant())
        assert caller.grant == Grant(account="ada", kind="task", work="t1", session="s1")
        assert acting(caller) == "ada"


def acting(caller: RoomCaller | User | None) -> str:
    return Call(request_id="r", method="/m", caller=caller, deadline=None, peer="").account()


def test_a_call_acts_for_whoever_it_comes_from(callee: Callee) -> None:
    assert acting(User(account="ada", sign_in="s", scopes=frozenset(), expires_at_us=0)) == "ada"
    with pytest.raises(GrantInvalid):
        acting(RoomCaller(name="agent"))
    with pytest.raises(TokenMissing):
        acting(None)


BAD: dict[str, Callable[[Callee], str | bytes]] = {
    "for another room": lambda c: c.grant(aud="llm"),
    "for other work": lambda c: c.grant(task=None, errand="t1"),
    "for no work": lambda c: c.grant(task=""),
    "work of a wrong kind": lambda c: c.grant(task=7),
    "for nobody": lambda c: c.grant(sub=None),
    "of a foreign key": lambda c: c.grant(Signer(Ed25519PrivateKey.generate(), "g1", ISSUER)),
    "of a key for people": lambda c: c.grant(c.people),
    "of the room's own key": lambda c: c.grant(_room_signer("agent")),
    "of another issuer": lambda c: c.grant(Signer(c.signer._key, "g1", "evil")),
    "a person's token": lambda c: c.people.sign(c.claims(), typ=USER_TOKEN),
    "a token of another type": lambda c: c.grant(typ=USER_TOKEN),
    "the room's own token": lambda c: c.rooms["agent"].token("store"),
    "good for more than a minute": lambda c: c.grant(exp=c.clock.now_us() // 1_000_000 + 61),
    "not good yet": lambda c: c.grant(iat=c.clock.now_us() // 1_000_000 + 60),
    "without an end": lambda c: c.grant(exp=None),
    "cut short": lambda c: c.grant()[:-4],
    "empty": lambda c: "",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_grant_that_is_not_for_this_call_is_refused(callee: Callee, kind: str) -> None:
    with pytest.raises(GrantInvalid) as caught:
        callee.enter(ACTS, BAD[kind](callee))
    assert caught.value.metadata == {"grant": "invalid"}


def test_no_grant_or_two_are_refused(callee: Callee) -> None:
    for grants in ((), (callee.grant(), callee.grant()), (callee.grant().encode(),)):
        for policy in (ACTS, FOR_PEOPLE_TOO):
            with pytest.raises(GrantInvalid) as caught:
                callee.enter(policy, *grants)
            assert caught.value.metadata == {"grant": "missing"}


async def test_a_grant_ends_after_a_minute_also_when_it_was_seen_before(callee: Callee) -> None:
    grant = callee.grant()
    await callee.clock.advance(timedelta(seconds=59))
    callee.revocations.seen()
    callee.enter(ACTS, grant)
    await callee.clock.advance(timedelta(seconds=1))
    callee.revocations.seen()
    with pytest.raises(GrantInvalid) as caught:
        callee.enter(ACTS, grant)
    assert caught.value.metadata == {"grant": "expired"}


def test_a_grant_is_no_substitute_for_the_rooms_key(callee: Callee) -> None:
    with pytest.raises(TokenMissing):
        callee.door.caller([(GRANT, callee.grant())], ACTS)
    unlisted = Policy(audience=Audience.ROOM, deadline=None, callers=frozenset({"eye"}))
    with pytest.raises(CallerNotAllowed):
        callee.enter(unlisted, callee.grant())


def test_a_room_that_acts_for_itself_needs_none_and_gets_none(callee: Callee) -> None:
    assert callee.enter(ACTS, room="eye").grant is None
    assert callee.enter(ACTS, callee.grant(), room="eye").grant is None


def test_an_ended_account_leaves_only_what_cleans_up_behind_it(callee: Callee) -> None:
    callee.revocations.replace(sign_ins=[], accounts=["ada"])
    with pytest.raises(GrantInvalid):
        callee.enter(ACTS, callee.grant())
    cleaning = Policy(
        audience=Audience.ROOM,
        deadline=None,
        callers=frozenset({"agent"}),
        grants={"agent": "task"},
        after_end=True,
    )
    assert callee.enter(cleaning, callee.grant()).grant


async def test_without_the_feed_nobody_is_acted_for(callee: Callee) -> None:
    await callee.clock.advance(timedelta(seconds=11))
    with pytest.raises(FeedLost):
        callee.enter(ACTS, callee.grant())


def test_a_missing_grant_can_be_left_to_the_method_and_a_bad_one_cannot(callee: Callee) -> None:
    optional = Policy(
        audience=Audience.ROOM,
        deadline=None,
        callers=frozenset({"agent"}),
        grants={"agent": "task"},
        grant_optional=True,
    )
    assert callee.enter(optional).grant is None
    with pytest.raises(GrantInvalid):
        callee.enter(optional, callee.grant(aud="llm"))
