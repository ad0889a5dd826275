"""The keys that sign people's access tokens, made at the first start, and the tokens themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from uuid import UUID

from chassis import ids
from chassis.clock import Clock
from chassis.keys import KeySet, load_or_create_key, to_jwk
from chassis.tokens import Signer

ISSUER = "assistant.mesh"
AUDIENCE = "mesh"
LIFETIME = timedelta(minutes=10)
LONGEST = timedelta(days=366, minutes=1)  # an API token's life
GENERATION = "gen"  # claim: which refresh token of its sign-in an access token came with


class Purpose(IntEnum):
    """What a key signs; the numbers are the contract's."""

    ACCESS_TOKEN = 1
    API_TOKEN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKey:
    """The public half of a signing key. Its id is a UUIDv7 and so tells when the key was made."""

    key_id: str
    jwk: Mapping[str, str]
    purpose: Purpose

    @property
    def create_us(self) -> int:
        """When it was made, in microseconds since 1970, to the millisecond."""
        return (UUID(self.key_id).int >> 80) * 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """A signed token and its end, in microseconds since 1970."""

    text: str
    expire_us: int


class UserKeys:
    """The signing keys in one folder (``<key id>.key``, 0600), those of API tokens in its folder ``api``.

    The newest of each signs; all are trusted.
    """

    def __init__(self, signers: Sequence[Signer], api: Sequence[Signer]) -> None:
        self._signers = tuple(signers)
        self._api = {each.key_id: each for each in api}
        self.public = (
            *(_public(each, Purpose.ACCESS_TOKEN) for each in signers),
            *(_public(each, Purpose.API_TOKEN) for each in api),
        )
        self.trusted = KeySet([key.jwk for key in self.public])

    @classmethod
    def load_or_create(cls, folder: Path) -> UserKeys:
        """The keys of `folder` (made with mode 0700), at least one of each. Raises chassis.keys.KeyRefused."""
        return cls(_load(folder), _load(folder / "api"))

    @classmethod
    def renew(cls, folder: Path) -> None:
        """Put new keys in the place of those of `folder`: at the next start no older token is good."""
        for each in (folder, folder / "api"):
            old = sorted(each.glob("*.key"))
            load_or_create_key(each / f"{ids.uuid()}.key")
            for path in old:
                path.unlink()

    @property
    def api_signer(self) -> Signer:
        """The key that signs API tokens now."""
        return tuple(self._api.values())[-1]

    def api_signer_of(self, key_id: str) -> Signer | None:
        """The key of API tokens with this id, or None when it is no such key, or gone."""
        return self._api.get(key_id)

    @property
    def signer(self) -> Signer:
        """The key that signs now."""
        return self._signers[-1]

    def jwks(self) -> bytes:
        """All public halves as a JSON Web Key Set (RFC 7517)."""
        return json.dumps({"keys": [dict(key.jwk) for key in self.public]}, separators=(",", ":")).encode()

    def publish(self, path: Path) -> None:
        """Write the key set where Envoy reads it: whole or not at all."""
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("wb") as file:
            file.write(self.jwks())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def _load(folder: Path) -> list[Signer]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = sorted(folder.glob("*.key")) or [folder / f"{ids.uuid()}.key"]
    return [Signer(load_or_create_key(path), path.stem, ISSUER) for path in paths]


def _public(signer: Signer, purpose: Purpose) -> PublicKey:
    return PublicKey(key_id=signer.key_id, jwk=to_jwk(signer.key_id, signer.public_key), purpose=purpose)


class AccessTokens:
    """Issues the tokens that every room checks on its own."""

    def __init__(self, keys: UserKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, *, account: str, sign_in: str, generation: int) -> AccessToken:
        """A token for one sign-in, good for 10 minutes from now. No scope: a device may do everything."""
        now = self._clock.now_us() // 1_000_000
        expires = now + round(LIFETIME.total_seconds())
        claims = {
            "sub": account,
            "sid": sign_in,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": expires,
            "scope": "",
            GENERATION: generation,
        }
        return AccessToken(text=self._keys.signer.sign(claims), expire_us=expires * 1_000_000)
