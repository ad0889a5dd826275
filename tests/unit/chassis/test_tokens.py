from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.access import ANY_SCOPE, Audience, Policy
from chassis.auth import Authenticator, Revocations, RoomIdentity, room_issuer
from chassis.call import RoomCaller, User
from chassis.errors import (
    CallerNotAllowed,
    FeedLost,
    ScopeMissing,
    ServiceError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenRevoked,
)
from chassis.keys import KeyRefused, KeySet, load_or_create_key, to_jwk
from chassis.testing import FakeClock
from chassis.tokens import ROOM_TOKEN, USER_TOKEN, Signer, Verifier

KEY = Ed25519PrivateKey.generate()
STRANGER = Ed25519PrivateKey.generate()
ISSUER, AUDIENCE = "https://mesh.test", "mesh"
SIGNER = Signer(KEY, "k1", ISSUER)
USERS = Policy(audience=Audience.USER, deadline=None, scope=ANY_SCOPE)
ROOMS = Policy(audience=Audience.ROOM, deadline=None, callers=frozenset({"context_svc"}))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keys() -> KeySet:
    return KeySet([to_jwk("k1", KEY.public_key())])


@pytest.fixture
def verifier(keys: KeySet, clock: FakeClock) -> Verifier:
    return Verifier(keys, ISSUER, AUDIENCE, USER_TOKEN, clock)


def claims(clock: FakeClock, **changes: object) -> dict[str, object]:
    now = clock.now_us() // 1_000_000
    whole = {"sub": "acc", "aud": AUDIENCE, "sid": "dev", "iat": now, "nbf": now, "exp": now + 600, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(
    header: Mapping[str, object] | bytes, payload: Mapping[str, object] | bytes, key: Ed25519PrivateKey = KEY
) -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = ".".join(map(b64, parts))
    return f"{text}.{b64(key.sign(text.encode()))}"


def header(**changes: object) -> dict[str, object]:
    whole: dict[str, object] = {"alg": "EdDSA", "typ": USER_TOKEN, "kid": "k1", **changes}
    return {name: value for name, value in whole.items() if value is not None}


def hmac_with_public_key(payload: Mapping[str, object]) -> str:
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = f"{b64(json.dumps(header(alg='HS256')).encode())}.{b64(json.dumps(payload).encode())}"
    return f"{text}.{b64(hmac.new(pem, text.encode(), hashlib.sha256).digest())}"


def test_a_good_token_says_who_calls(verifier: Verifier, clock: FakeClock) -> None:
    got = verifier.verify(SIGNER.sign(claims(clock, scope="mcp")))
    assert (got.issuer, got.subject, got.session, got.key_id) == (ISSUER, "acc", "dev", "k1")
    assert got.all["scope"] == "mcp"


FORGERIES: dict[str, Callable[[FakeClock], str]] = {
    "alg none": lambda c: forged(header(alg="none"), claims(c)).rpartition(".")[0] + ".",
    "alg nOnE": lambda c: forged(header(alg="nOnE"), claims(c)),
    "alg HS256 with the public key": lambda c: hmac_with_public_key(claims(c)),
    "foreign key": lambda c: Signer(STRANGER, "k1", ISSUER).sign(claims(c)),
    "unknown kid": lambda c: Signer(KEY, "k2", ISSUER).sign(claims(c)),
    "no kid": lambda c: forged(header(kid=None), claims(c)),
    "kid list": lambda c: forged(header(kid=["k1"]), claims(c)),
    "kid path": lambda c: forged(header(kid="../../k1"), claims(c)),
    "jwk header": lambda c: forged(header(jwk=to_jwk("k1", STRANGER.public_key())), claims(c), STRANGER),
    "jku header": lambda c: forged(header(jku="https://evil.test"), claims(c)),
    "x5u header": lambda c: forged(header(x5u="https://evil.test"), claims(c)),
    "x5c header": lambda c: forged(header(x5c=["MII"]), claims(c)),
    "crit header": lambda c: forged(header(crit=["b64"], b64=False), claims(c)),
    "typ JWT": lambda c: SIGNER.sign(claims(c), typ="JWT"),
    "typ refresh": lambda c: SIGNER.sign(claims(c), typ="refresh+jwt"),
    "typ of a room": lambda c: SIGNER.sign(claims(c), typ=ROOM_TOKEN),
    "aud other": lambda c: SIGNER.sign(claims(c, aud="other")),
    "aud list": lambda c: SIGNER.sign(claims(c, aud=[AUDIENCE])),
    "aud missing": lambda c: SIGNER.sign(claims(c, aud=None)),
    "aud longer": lambda c: SIGNER.sign(claims(c, aud=AUDIENCE + "2")),
    "iss other": lambda c: Signer(KEY, "k1", ISSUER + ".evil").sign(claims(c)),
    "iss list": lambda c: forged(header(), claims(c, iss=[ISSUER], jti="j")),
    "sub missing": lambda c: SIGNER.sign(claims(c, sub=None)),
    "sub empty": lambda c: SIGNER.sign(claims(c, sub="")),
    "sub number": lambda c: forged(header(), claims(c, iss=ISSUER, jti="j", sub=7)),
    "sid missing": lambda c: SIGNER.sign(claims(c, sid=None)),
    "jti missing": lambda c: forged(header(), claims(c, iss=ISSUER)),
    "exp missing": lambda c: SIGNER.sign(claims(c, exp=None)),
    "exp text": lambda c: forged(header(), claims(c, iss=ISSUER, jti="j", exp="9999999999")),
    "exp float": lambda c: forged(header(), claims(c, iss=ISSUER, jti="j", exp=9e9)),
    "exp huge": lambda c: forged(header(), claims(c, iss=ISSUER, jti="j", exp=10**30)),
    "exp true": lambda c: forged(header(), claims(c, iss=ISSUER, jti="j", exp=True)),
    "exp negative": lambda c: forged(header(), claims(c, iss=ISSUER, jti="j", exp=-1)),
    "iat missing": lambda c: SIGNER.sign(claims(c, iat=None)),
    "iat future": lambda c: SIGNER.sign(claims(c, iat=c.now_us() // 1_000_000 + 60)),
    "nbf future": lambda c: SIGNER.sign(claims(c, nbf=c.now_us() // 1_000_000 + 60)),
    "duplicate claim": lambda c: forged(
        header(), json.dumps(claims(c, iss=ISSUER, jti="j"))[:-1].encode() + b',"sub":"other"}'
    ),
    "duplicate header": lambda c: forged(
        json.dumps(header())[:-1].encode() + b',"alg":"none"}', claims(c, iss=ISSUER, jti="j")
    ),
    "UTF-16 claims": lambda c: forged(header(), json.dumps(claims(c, iss=ISSUER, jti="j")).encode("utf-16")),
    "claims list": lambda c: forged(header(), b"[]"),
    "deep nesting": lambda c: forged(header(), b"[" * 1500 + b"]" * 1500),
    "no signature": lambda c: SIGNER.sign(claims(c)).rpartition(".")[0] + ".",
    "two parts": lambda c: SIGNER.sign(claims(c)).rpartition(".")[0],
    "four parts": lambda c: SIGNER.sign(claims(c)) + ".x",
    "doubled dots": lambda c: SIGNER.sign(claims(c)).replace(".", ".."),
    "leading space": lambda c: " " + SIGNER.sign(claims(c)),
    "line end": lambda c: SIGNER.sign(claims(c)) + "\n",
    "longer than 4 KiB": lambda c: SIGNER.sign(claims(c, more="x" * 4096)),
    "surrogate": lambda c: SIGNER.sign(claims(c)) + "\ud800",
    "empty": lambda c: "",
}


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_token_is_refused(verifier: Verifier, clock: FakeClock, kind: str) -> None:
    with pytest.raises(TokenInvalid):
        verifier.verify(FORGERIES[kind](clock))


async def test_an_expired_token_is_told_apart_also_when_it_is_remembered(
    verifier: Verifier, clock: FakeClock
) -> None:
    token = SIGNER.sign(claims(clock))
    verifier.verify(token)
    await clock.advance(timedelta(seconds=599))
    verifier.verify(token)
    await clock.advance(timedelta(seconds=1))
    with pytest.raises(TokenExpired):
        verifier.verify(token)


@pytest.mark.requirement("ID-3")
def test_a_retired_key_is_refused_at_once(verifier: Verifier, keys: KeySet, clock: FakeClock) -> None:
    token = SIGNER.sign(claims(clock))
    verifier.verify(token)
    keys.replace([to_jwk("k2", STRANGER.public_key())])
    with pytest.raises(TokenInvalid):
        verifier.verify(token)
    assert verifier.verify(Signer(STRANGER, "k2", ISSUER).sign(claims(clock))).key_id == "k2"


def test_a_token_that_lives_too_long_is_refused(keys: KeySet, clock: FakeClock) -> None:
    strict = Verifier(keys, ISSUER, AUDIENCE, USER_TOKEN, clock, lifetime=timedelta(seconds=60))
    with pytest.raises(TokenInvalid):
        strict.verify(SIGNER.sign(claims(clock)))


def test_a_published_key_set_can_be_read_back(keys: KeySet) -> None:
    assert KeySet(keys.to_jwks()).to_jwks() == keys.to_jwks()


@pytest.mark.parametrize(
    "change", [{"crv": "X25519"}, {"kty": "RSA"}, {"x": "AAAA"}, {"kid": ""}, {"d": "secret"}, {"x": None}]
)
def test_a_key_set_takes_nothing_but_ed25519_public_keys(change: dict[str, object]) -> None:
    with pytest.raises(KeyRefused):
        KeySet([{**to_jwk("k1", KEY.public_key()), **change}])


def test_a_key_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    first = load_or_create_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    again = load_or_create_key(tmp_path / "key.pem")
    assert to_jwk("k", first.public_key()) == to_jwk("k", again.public_key())


@pytest.mark.requirement("EDGE-4")
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(KeyRefused, match="chmod"):
        load_or_create_key(tmp_path / "key.pem")


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch(mode=0o600)
    with pytest.raises(KeyRefused):
        load_or_create_key(tmp_path / "key.pem")


class Door:
    """A room's authenticator with one user key and one key of context_svc."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.revocations = Revocations(clock)
        self.revocations.seen()
        self.issuer = room_issuer("context_svc")
        rooms = KeySet([to_jwk(f"{self.issuer}#1", STRANGER.public_key())])
        self.context = RoomIdentity("context_svc", Signer(STRANGER, f"{self.issuer}#1", self.issuer), clock)
        self.authenticator = Authenticator(
            Verifier(KeySet([to_jwk("k1", KEY.public_key())]), ISSUER, AUDIENCE, USER_TOKEN, clock),
            Verifier(
                rooms, None, "llm_svc", ROOM_TOKEN, clock, session=False, lifetime=timedelta(seconds=60)
            ),
            self.revocations,
            clock,
        )

    def enter(self, policy: Policy, *tokens: str) -> object:
        return self.authenticator.caller([("authorization", f"Bearer {token}") for token in tokens], policy)

    def refusal(self, policy: Policy, *tokens: str) -> type[ServiceError]:
        with pytest.raises(ServiceError) as caught:
            self.enter(policy, *tokens)
        return type(caught.value)

    def user(self) -> str:
        return SIGNER.sign(claims(self.clock, scope="chat mcp"))


@pytest.fixture
def door(clock: FakeClock) -> Door:
    return Door(clock)


def test_a_person_comes_in_with_their_sign_in(door: Door) -> None:
    user = door.enter(USERS, door.user())
    assert isinstance(user, User)
    assert (user.account, user.sign_in, user.scopes) == ("acc", "dev", frozenset({"chat", "mcp"}))
    assert user.expires_at_us == door.clock.now_us() + 600_000_000


@pytest.mark.requirement("ID-10")
def test_a_token_with_scopes_enters_where_one_of_them_is_asked_for(door: Door) -> None:
    assert isinstance(door.enter(replace(USERS, scope="chat"), door.user()), User)
    assert door.refusal(replace(USERS, scope="read"), door.user()) is ScopeMissing
    assert door.refusal(replace(USERS, scope=None), door.user()) is CallerNotAllowed
    whole = SIGNER.sign(claims(door.clock, scope=""))
    for scope in ("chat", "read", None, ANY_SCOPE):
        assert isinstance(door.enter(replace(USERS, scope=scope), whole), User)


def test_no_token_or_two_are_refused(door: Door) -> None:
    assert door.refusal(USERS) is TokenMissing
    assert door.refusal(USERS, door.user(), door.user()) is TokenMissing


@pytest.mark.parametrize("value", ["bearer x", "Basic x", "Bearer", b"Bearer x"])
def test_only_the_bearer_form_counts(door: Door, value: str | bytes) -> None:
    with pytest.raises(TokenMissing):
        door.authenticator.caller([("authorization", value)], USERS)


@pytest.mark.requirement("SAFE-1")
def test_a_room_comes_in_with_its_own_key(door: Door) -> None:
    assert door.enter(ROOMS, door.context.token("llm_svc")) == RoomCaller(name="context_svc")


@pytest.mark.requirement("SAFE-1")
def test_neither_kind_of_token_opens_the_other_door(door: Door) -> None:
    assert door.refusal(ROOMS, door.user()) is TokenInvalid
    assert door.refusal(USERS, door.context.token("llm_svc")) is TokenInvalid


@pytest.mark.requirement("SAFE-1")
def test_a_method_for_people_takes_the_rooms_that_it_names_too(door: Door) -> None:
    named = replace(USERS, callers=frozenset({"context_svc"}))
    assert door.enter(named, door.context.token("llm_svc")) == RoomCaller(name="context_svc")
    assert isinstance(door.enter(named, door.user()), User)
    other = Policy(audience=Audience.USER, deadline=None, callers=frozenset({"media_svc"}))
    assert door.refusal(other, door.context.token("llm_svc")) is CallerNotAllowed


@pytest.mark.requirement("SAFE-1")
def test_a_room_is_refused_elsewhere_and_where_it_is_not_listed(door: Door) -> None:
    assert door.refusal(ROOMS, door.context.token("media_svc")) is TokenInvalid
    unlisted = Policy(audience=Audience.ROOM, deadline=None, callers=frozenset({"media_svc"}))
    assert door.refusal(unlisted, door.context.token("llm_svc")) is CallerNotAllowed


@pytest.mark.requirement("SAFE-1")
def test_a_room_cannot_speak_for_another(door: Door) -> None:
    other = RoomIdentity("media_svc", Signer(STRANGER, f"{door.issuer}#1", door.issuer), door.clock)
    assert door.refusal(ROOMS, other.token("llm_svc")) is TokenInvalid
    posing = RoomIdentity(
        "media_svc", Signer(STRANGER, f"{door.issuer}#1", room_issuer("media_svc")), door.clock
    )
    assert door.refusal(ROOMS, posing.token("llm_svc")) is TokenInvalid


async def test_a_room_token_is_kept_for_half_its_life(door: Door) -> None:
    first = door.context.token("llm_svc")
    await door.clock.advance(timedelta(seconds=29))
    assert door.context.token("llm_svc") == first
    await door.clock.advance(timedelta(seconds=1))
    assert door.context.token("llm_svc") != first
    await door.clock.advance(timedelta(seconds=60))
    assert door.refusal(ROOMS, first) is TokenExpired


@pytest.mark.requirement("ID-5")
def test_an_ended_sign_in_is_refused(door: Door) -> None:
    door.revocations.revoke(sign_ins=["dev"])
    assert door.refusal(USERS, door.user()) is TokenRevoked
    door.revocations.replace(sign_ins=[], accounts=["acc"])
    assert door.refusal(USERS, door.user()) is TokenRevoked
    door.revocations.replace(sign_ins=[], accounts=[])
    door.enter(USERS, door.user())


@pytest.mark.requirement("ID-5")
async def test_without_the_feed_for_ten_seconds_no_person_is_trusted(door: Door) -> None:
    await door.clock.advance(timedelta(seconds=10))
    door.enter(USERS, door.user())
    await door.clock.advance(timedelta(milliseconds=1))
    assert door.refusal(USERS, door.user()) is FeedLost
    door.enter(ROOMS, door.context.token("llm_svc"))
    door.revocations.seen()
    door.enter(USERS, door.user())


def test_a_feed_that_never_came_is_not_alive_and_an_owned_list_always_is(clock: FakeClock) -> None:
    assert not Revocations(clock).alive()
    assert Revocations(clock, patience=None).alive()


def test_an_open_door_asks_nobody(door: Door) -> None:
    assert door.enter(Policy(audience=Audience.OPEN, deadline=None)) is None
