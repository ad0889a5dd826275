"""The keys that sign people's access tokens, made at the first start, and the tokens themselves."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from chassis import ids
from chassis.clock import Clock, SystemClock
from chassis.keys import KeySet, load_or_create_key, to_jwk
from chassis.tokens import Signer
from chassis.whole import write_whole

ISSUER = "assistant.mesh"
AUDIENCE = "mesh"
LIFETIME = timedelta(minutes=10)
LONGEST = timedelta(days=366, minutes=1)  # an API token's life
SIGNS = timedelta(days=90)  # how long a key signs
LEAD = timedelta(
    minutes=10
)  # how long a new key is known before it signs: longer than anybody keeps the old list
GENERATION = "gen"  # claim: which refresh token of its sign-in an access token came with


class Purpose(IntEnum):
    """What a key signs; the numbers are the contract's."""

    ACCESS_TOKEN = 1
    API_TOKEN = 2
    GRANT = 3


OVERLAPS: Mapping[Purpose, timedelta] = {
    Purpose.ACCESS_TOKEN: timedelta(hours=24),
    Purpose.API_TOKEN: LONGEST,  # a token is to work until its own end
    Purpose.GRANT: timedelta(hours=24),
}
"""How long a key counts after the next one was made."""

_PLACES: Mapping[Purpose, str] = {
    Purpose.ACCESS_TOKEN: ".",
    Purpose.API_TOKEN: "api",
    Purpose.GRANT: "grants",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKey:
    """The public half of a signing key. Its id is a UUIDv7 and so tells when the key was made.

    `end_us` is when its signatures stop to count, in microseconds since 1970; None: not known yet.
    """

    key_id: str
    jwk: Mapping[str, str]
    purpose: Purpose
    end_us: int | None = None

    @property
    def create_us(self) -> int:
        """When it was made, in microseconds since 1970, to the millisecond."""
        return made_us(self.key_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """A signed token and its end, in microseconds since 1970."""

    text: str
    expire_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """What a look at the keys changed: keys that are new or whose end is known now, and ids of those that are gone."""

    changed: tuple[PublicKey, ...] = ()
    retired: tuple[str, ...] = ()


class UserKeys:
    """The signing keys in one folder (``<key id>.key``, 0600): those of API tokens in its folder ``api``, those of
    grants in ``grants``.

    Of each kind the newest signs that is older than `LEAD`. `public` are those that people's tokens are checked
    with, `announced` is what the rooms are told.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        """The keys that are there, perhaps none. Raises chassis.keys.KeyRefused."""
        self._folder = folder
        self._clock = clock
        self.public: tuple[PublicKey, ...] = ()
        self.trusted = KeySet()
        self._take({purpose: self._found(purpose) for purpose in _PLACES})

    @classmethod
    def load_or_create(cls, folder: Path, clock: Clock | None = None) -> UserKeys:
        """The keys of `folder`, renewed: at least one of each kind. Raises chassis.keys.KeyRefused."""
        keys = cls(folder, clock or SystemClock())
        keys.renew()
        return keys

    def renew(self, *, now: bool = False) -> Renewal:
        """Make the keys that are due, delete those whose end has come, take up those that others put there.

        With `now` every key is replaced and the old ones count no longer. Replicas that share the folder do this one
        after the other, so that all of them begin with the same keys. Raises chassis.keys.KeyRefused.
        """
        before = {key.key_id: key for key in self.announced}
        with _alone(self._folder):
            self._take({purpose: self._due(purpose, replace=now) for purpose in _PLACES})
        after = {key.key_id: key for key in self.announced}
        return Renewal(
            changed=tuple(key for key_id, key in after.items() if before.get(key_id) != key),
            retired=tuple(key_id for key_id in before if key_id not in after),
        )

    def due_us(self) -> int:
        """The next moment at which a key is to be made, begins to sign, or ends; it may be past."""
        now_us = self._clock.now_us()
        moments = [made_us(ring[-1].key_id) + _us(SIGNS) for ring in self._rings.values() if ring]
        begins = [made_us(key.key_id) + _us(LEAD) for key in self.announced]
        moments += [each for each in begins if each > now_us]
        moments += [key.end_us for key in self.announced if key.end_us is not None]
        return min(moments, default=now_us)

    def _found(self, purpose: Purpose) -> list[Path]:
        """The key files of one kind, the oldest first."""
        folder = self._folder / _PLACES[purpose]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sorted(folder.glob("*.key"))

    def _due(self, purpose: Purpose, *, replace: bool) -> list[Path]:
        """The files as the moment wants them; one of them may not exist yet, those that are over exist no more."""
        files, now_us = self._found(purpose), self._clock.now_us()
        if replace or not files or made_us(files[-1].stem) + _us(SIGNS) <= now_us:
            files.append(self._folder / _PLACES[purpose] / f"{ids.uuid(now_us)}.key")
        for file, successor in pairwise(tuple(files)):
            if replace or made_us(successor.stem) + _us(OVERLAPS[purpose]) <= now_us:
                file.unlink(missing_ok=True)
                files.remove(file)
        return files

    def _take(self, files: Mapping[Purpose, list[Path]]) -> None:
        self._rings = {
            purpose: tuple(Signer(load_or_create_key(path), path.stem, ISSUER) for path in paths)
            for purpose, paths in files.items()
        }
        kept = {purpose: self._published(purpose) for purpose in _PLACES}
        public = (*kept[Purpose.ACCESS_TOKEN], *kept[Purpose.API_TOKEN])
        self.announced: tuple[PublicKey, ...] = (*public, *kept[Purpose.GRANT])
        if public != self.public:  # else what was verified stays verified
            self.public = public
            self.trusted.replace([key.jwk for key in public])

    def _published(self, purpose: Purpose) -> tuple[PublicKey, ...]:
        ring = self._rings[purpose]
        ends = [made_us(later.key_id) + _us(OVERLAPS[purpose]) for later in ring[1:]]
        return tuple(
            PublicKey(
                key_id=signer.key_id,
                jwk=to_jwk(signer.key_id, signer.public_key),
                purpose=purpose,
                end_us=end_us,
            )
            for signer, end_us in zip(ring, (*ends, None), strict=False)
        )

    def _signer(self, purpose: Purpose) -> Signer:
        ring, now_us = self._rings[purpose], self._clock.now_us()
        known = [signer for signer in ring if made_us(signer.key_id) + _us(LEAD) <= now_us]
        return known[-1] if known else ring[0]

    @property
    def signer(self) -> Signer:
        """The key that signs access tokens now."""
        return self._signer(Purpose.ACCESS_TOKEN)

    @property
    def grant_signer(self) -> Signer:
        """The key that signs grants now. No token of a person is trusted under it."""
        return self._signer(Purpose.GRANT)

    @property
    def api_signer(self) -> Signer:
        """The key that signs API tokens now."""
        return self._signer(Purpose.API_TOKEN)

    def api_signer_of(self, key_id: str) -> Signer | None:
        """The key of API tokens with this id, or None when it is no such key, or gone."""
        ring = self._rings[Purpose.API_TOKEN]
        return next((signer for signer in ring if signer.key_id == key_id), None)

    def jwks(self) -> bytes:
        """The public halves that people's tokens are checked with, as a JSON Web Key Set (RFC 7517)."""
        return json.dumps({"keys": [dict(key.jwk) for key in self.public]}, separators=(",", ":")).encode()

    def publish(self, path: Path) -> None:
        """Write the key set where Envoy reads it: whole or not at all."""
        write_whole(path, self.jwks(), mode=0o644)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from the folder while the block runs."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_us(key_id: str) -> int:
    """When a key was made, in microseconds since 1970, to the millisecond."""
    return (UUID(key_id).int >> 80) * 1_000


def _us(span: timedelta) -> int:
    return round(span.total_seconds() * 1e6)


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
