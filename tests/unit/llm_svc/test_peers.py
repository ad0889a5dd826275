"""The feed of signing keys and ended sign-ins, frame by frame."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.identity.v1 import identity_pb2 as pb
from chassis.auth import Revocations
from chassis.call import User
from chassis.keys import KeySet, to_jwk
from chassis.testing import FakeClock
from chassis.trust import FeedBroken, Trust
from llm_svc.peers import told

pytestmark = pytest.mark.requirement("ID-3")
START = 1_800_000_000
FAR = Timestamp(seconds=START + 1_000_000)


class Feed:
    """A room's trust, and frames with rising numbers."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.keys = KeySet()
        self.revocations = Revocations(self.clock)
        self.trust = Trust(self.keys, self.revocations, self.clock)
        self.sequence = 0

    def tell(self, **frame: object) -> None:
        self.sequence += 1
        self.trust.receive(self.sequence, told(pb.WatchRevocationsResponse(**frame)))  # type: ignore[arg-type]

    def is_revoked(self, account: str = "anna", sign_in: str = "s1") -> bool:
        return self.revocations.revoked(
            User(account=account, sign_in=sign_in, scopes=frozenset(), expires_at_us=0)
        )


def signing_key(
    name: str, *, purpose: int = pb.SIGNING_KEY_PURPOSE_ACCESS_TOKEN, end: int = START + 60
) -> pb.SigningKey:
    jwk = to_jwk(name, Ed25519PrivateKey.generate().public_key())
    return pb.SigningKey(
        key_id=name,
        purpose=purpose,  # type: ignore[arg-type]
        jwk_json=json.dumps(jwk),
        not_after_time=Timestamp(seconds=end),
    )


def state(*names: str) -> pb.RevocationState:
    return pb.RevocationState(signing_keys=[signing_key(name) for name in names])


def test_the_first_frame_is_all_that_is_trusted() -> None:
    feed = Feed()
    assert not feed.revocations.alive()
    feed.tell(state=state("k1"))
    assert feed.revocations.alive()
    assert feed.keys.get("k1") is not None
    assert feed.keys.get("k2") is None


def test_a_change_adds_keys_and_retires_others() -> None:
    feed = Feed()
    feed.tell(state=state("k1"))
    feed.tell(change=pb.RevocationChange(signing_keys=[signing_key("k2")], retired_key_ids=["k1"]))
    assert feed.keys.get("k1") is None
    assert feed.keys.get("k2") is not None


def test_a_key_ends_by_itself() -> None:
    feed = Feed()
    feed.tell(state=state("k1"))
    feed.clock.jump(timedelta(seconds=61))
    feed.tell(heartbeat=pb.RevocationHeartbeat())
    assert feed.keys.get("k1") is None


def test_a_key_that_signs_grants_is_no_key_for_people() -> None:
    feed = Feed()
    grants = signing_key("k1", purpose=pb.SIGNING_KEY_PURPOSE_GRANT)
    feed.tell(state=pb.RevocationState(signing_keys=[grants]))
    assert feed.keys.get("k1") is None


def test_ended_sign_ins_and_accounts_are_refused_until_restored() -> None:
    feed = Feed()
    feed.tell(state=state("k1"))
    assert not feed.is_revoked()
    feed.tell(
        change=pb.RevocationChange(revoked_accounts=[pb.RevokedAccount(account_id="anna", forget_time=FAR)])
    )
    assert feed.is_revoked()
    feed.tell(change=pb.RevocationChange(restored_account_ids=["anna"]))
    assert not feed.is_revoked()
    feed.tell(
        change=pb.RevocationChange(revoked_sign_ins=[pb.RevokedSignIn(sign_in_id="s1", forget_time=FAR)])
    )
    assert feed.is_revoked()
    assert not feed.is_revoked(sign_in="s2")


def test_a_gap_opens_the_feed_anew() -> None:
    feed = Feed()
    feed.tell(state=state("k1"))
    feed.sequence += 1
    with pytest.raises(FeedBroken):
        feed.tell(heartbeat=pb.RevocationHeartbeat())
    feed.trust.begin()
    feed.sequence = 0
    feed.tell(state=state("k2"))
    assert feed.keys.get("k1") is None


async def test_a_silent_feed_ends_the_trust_after_ten_seconds() -> None:
    feed = Feed()
    feed.tell(state=state("k1"))
    await feed.clock.advance(timedelta(seconds=11))
    assert not feed.revocations.alive()
    feed.tell(heartbeat=pb.RevocationHeartbeat())
    assert feed.revocations.alive()
