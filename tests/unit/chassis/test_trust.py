from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.auth import Revocations
from chassis.call import User
from chassis.keys import KeySet, to_jwk
from chassis.testing import FakeClock
from chassis.trust import FOREVER, Alive, Changed, FeedBroken, Key, Told, Trust, Whole

FAR = FOREVER


class Room:
    """A trust with what it fills."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.keys = KeySet()
        self.revocations = Revocations(self.clock)
        self.trust = Trust(self.keys, self.revocations, self.clock)

    def hear(self, *frames: Told) -> Room:
        self.trust.begin()
        for number, frame in enumerate(frames, 1):
            self.trust.receive(number, frame)
        return self

    def trusts(self, account: str = "a", sign_in: str = "s") -> bool:
        user = User(account=account, sign_in=sign_in, scopes=frozenset(), expires_at_us=FAR)
        return self.revocations.alive() and not self.revocations.revoked(user)


def key(name: str, *, begin_us: int = 0, end_us: int = FAR) -> dict[str, Key]:
    public = Ed25519PrivateKey.generate().public_key()
    return {name: Key(jwk=to_jwk(name, public), begin_us=begin_us, end_us=end_us)}


def test_before_the_first_state_nothing_is_trusted() -> None:
    assert not Room().trusts()
    assert Room().hear(Whole()).trusts()


def test_a_change_adds_to_the_state_and_a_new_state_replaces_it() -> None:
    room = Room().hear(
        Whole(sign_ins={"s": FAR}, keys=key("k1")), Changed(accounts={"b": FAR}, keys=key("k2"))
    )
    assert not room.trusts()
    assert not room.trusts(account="b", sign_in="other")
    assert room.keys.get("k1")
    assert room.keys.get("k2")
    room.hear(Whole(keys=key("k3")))
    assert room.trusts()
    assert [room.keys.get(name) is None for name in ("k1", "k2", "k3")] == [True, True, False]


def test_an_account_can_come_back_and_a_key_can_be_retired() -> None:
    room = Room().hear(
        Whole(accounts={"a": FAR}, keys=key("k1")),
        Changed(restored_accounts=frozenset({"a"}), retired_keys=frozenset({"k1"})),
    )
    assert room.trusts()
    assert room.keys.get("k1") is None


async def test_a_key_counts_from_its_beginning_to_its_end_without_a_further_word() -> None:
    room = Room()
    now = room.clock.now_us()
    room.hear(Whole(keys=key("k", begin_us=now + 6_000_000, end_us=now + 8_000_000)))
    assert room.keys.get("k") is None
    await room.clock.advance(timedelta(seconds=6))
    room.trust.receive(2, Alive())
    assert room.keys.get("k") is not None
    await room.clock.advance(timedelta(seconds=2))
    room.trust.receive(3, Alive())
    assert room.keys.get("k") is None


def test_an_unchanged_key_set_keeps_the_tokens_already_verified() -> None:
    room = Room().hear(Whole(keys=key("k")))
    version = room.keys.version
    room.trust.receive(2, Alive())
    assert room.keys.version == version


async def test_silence_ends_the_trust() -> None:
    room = Room().hear(Whole())
    await room.clock.advance(timedelta(seconds=11))
    assert not room.trusts()


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([(1, Alive())], id="nothing before the state"),
        pytest.param([(2, Whole())], id="a beginning that was missed"),
        pytest.param([(1, Whole()), (3, Alive())], id="a gap"),
        pytest.param([(1, Whole()), (1, Alive())], id="a number twice"),
        pytest.param([(1, Whole()), (2, Whole())], id="a second state"),
    ],
)
def test_a_broken_feed_is_not_believed(frames: list[tuple[int, Told]]) -> None:
    room = Room()
    *good, (last, broken) = frames
    for number, frame in good:
        room.trust.receive(number, frame)
    with pytest.raises(FeedBroken):
        room.trust.receive(last, broken)
