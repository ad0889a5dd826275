"""Keys and secrets on the disk: made once, private, and the newest one signs."""

from __future__ import annotations

import json
import multiprocessing
import stat
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from chassis.errors import TokenInvalid
from chassis.keys import KeyRefused
from chassis.testing import FakeClock
from chassis.tokens import USER_TOKEN, Verifier
from context_svc.secret import ServerSecret
from context_svc.signing import AUDIENCE, ISSUER, LEAD, LIFETIME, AccessTokens, UserKeys


def verifier(keys: UserKeys, clock: FakeClock) -> Verifier:
    return Verifier(keys.trusted, ISSUER, AUDIENCE, USER_TOKEN, clock, lifetime=LIFETIME)


@pytest.mark.requirement("ID-3")
def test_a_new_key_signs_and_the_old_one_is_still_trusted(tmp_path: Path) -> None:
    clock = FakeClock()
    old = UserKeys.load_or_create(tmp_path, clock)
    token = AccessTokens(old, clock).issue(account="a", sign_in="s", generation=3)
    clock.jump(timedelta(seconds=1))  # keys of one instant have no order
    UserKeys.load_or_create(tmp_path / "other", clock)
    (made,) = (tmp_path / "other").glob("*.key")
    made.rename(tmp_path / made.name)
    both = UserKeys.load_or_create(tmp_path, clock)
    clock.jump(LEAD)
    assert both.signer.key_id == made.stem
    clock.jump(-LEAD - timedelta(seconds=1))
    assert len(json.loads(both.jwks())["keys"]) == 3  # two, and that of API tokens
    claims = verifier(both, clock).verify(token.text)
    assert (claims.subject, claims.session, claims.all["gen"]) == ("a", "s", 3)
    assert token.expire_us == clock.now_us() + 600_000_000


@pytest.mark.requirement("ID-3")
def test_a_retired_keys_token_is_refused(tmp_path: Path) -> None:
    clock = FakeClock()
    token = AccessTokens(UserKeys.load_or_create(tmp_path / "a"), clock).issue(
        account="a", sign_in="s", generation=0
    )
    with pytest.raises(TokenInvalid):
        verifier(UserKeys.load_or_create(tmp_path / "b"), clock).verify(token.text)


def test_a_key_tells_when_it_was_made(tmp_path: Path) -> None:
    key, _ = UserKeys.load_or_create(tmp_path).public
    (path,) = tmp_path.glob("*.key")
    assert abs(key.create_us / 1e6 - path.stat().st_mtime) < 5


def test_the_public_set_is_replaced_whole(tmp_path: Path) -> None:
    keys = UserKeys.load_or_create(tmp_path / "users")
    for _ in range(2):
        keys.publish(tmp_path / "users.jwks")
    assert (tmp_path / "users.jwks").read_bytes() == keys.jwks()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["users.jwks"]


@pytest.mark.requirement("SAFE-5")
def test_the_secret_is_private_kept_and_different_for_each_purpose(tmp_path: Path) -> None:
    path = tmp_path / "context.secret"
    first, second = ServerSecret.load_or_create(path), ServerSecret.load_or_create(path)
    assert first.key("a") == second.key("a") != first.key("b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["context.secret"]
    path.chmod(0o640)
    with pytest.raises(KeyRefused):
        ServerSecret.load_or_create(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(KeyRefused):
        ServerSecret.load_or_create(path)


@pytest.mark.slow
@pytest.mark.requirement("OPS-4")
def test_replicas_that_begin_at_once_begin_with_the_same_keys(tmp_path: Path) -> None:
    begin = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=begin) as pool:
        found = [set(each) for each in pool.map(_announced, [tmp_path / "users"] * 8)]
    assert len(found[0]) == 3  # one of each kind
    assert all(each == found[0] for each in found)


def _announced(folder: Path) -> list[str]:
    return [key.key_id for key in UserKeys.load_or_create(folder).announced]
