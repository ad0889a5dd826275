"""Signed tokens (JWT, EdDSA only): made with one key, checked against a set of keys, remembered by digest.

What a token must look like is an allow-list: three parts, a header of exactly alg, typ and kid, claims of the
right kinds, nothing twice. Whatever is not on it is refused: no header can name a key or another algorithm.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import ids
from chassis.clock import Clock
from chassis.errors import TokenExpired, TokenInvalid
from chassis.keys import KeySet

Json: TypeAlias = object

USER_TOKEN = "at+jwt"  # noqa: S105 - the `typ` header of RFC 9068, no secret
ROOM_TOKEN = "room+jwt"  # noqa: S105
GRANT_TOKEN = "grant+jwt"  # noqa: S105
_LONGEST = 4096
_SKEW = 5  # seconds the clocks of two machines may differ
_REMEMBERED = 4096
_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_HEADER = {"alg", "typ", "kid"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a verified token says. `session` is its sign-in; times are seconds since 1970."""

    issuer: str
    subject: str
    session: str
    id: str
    issued: int
    expires: int
    key_id: str
    all: Mapping[str, Json]


class Signer:
    """Makes tokens with one private key."""

    def __init__(self, private_key: Ed25519PrivateKey, key_id: str, issuer: str) -> None:
        self.public_key = private_key.public_key()
        self.key_id = key_id
        self.issuer = issuer
        self._key = private_key

    def sign(self, claims: Mapping[str, Json], *, typ: str = USER_TOKEN) -> str:
        """A token with these claims; issuer and token id (`jti`) are added, the rest is the caller's."""
        whole = {"iss": self.issuer, "jti": ids.uuid(), **claims}
        return jwt.encode(whole, self._key, algorithm="EdDSA", headers={"typ": typ, "kid": self.key_id})


class Verifier:
    """Checks tokens of one kind for one audience.

    `issuer=None` means that each key belongs to its own issuer: the key id must be the issuer's name, or that
    name followed by ``#`` and anything. `session=False` allows tokens without a sign-in; `lifetime` caps how
    long one is valid.
    """

    def __init__(
        self,
        keys: KeySet,
        issuer: str | None,
        audience: str,
        typ: str,
        clock: Clock,
        *,
        session: bool = True,
        lifetime: timedelta | None = None,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._typ = typ
        self._clock = clock
        self._session = session
        self._lifetime = lifetime
        self._known: OrderedDict[bytes, Claims] = OrderedDict()
        self._known_version = keys.version

    def verify(self, token: str) -> Claims:
        """The token's claims. Raises TokenInvalid, or TokenExpired for one that was valid until its end."""
        if len(token) > _LONGEST:
            raise TokenInvalid("longer than 4 KiB")
        if self._known_version != self._keys.version:
            self._known.clear()
            self._known_version = self._keys.version
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = self._check(token)
            self._remember(digest, claims)
        else:
            self._known.move_to_end(digest)
        if claims.expires <= self._seconds():
            raise TokenExpired
        return claims

    def _seconds(self) -> float:
        return self._clock.now_us() / 1e6

    def _remember(self, digest: bytes, claims: Claims) -> None:
        self._known[digest] = claims
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _check(self, token: str) -> Claims:
        header, payload = _parts(token)
        if header.keys() != _HEADER or header["alg"] != "EdDSA" or header["typ"] != self._typ:
            raise TokenInvalid("an unexpected header")
        key_id = header["kid"]
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None or not isinstance(key_id, str):
            raise TokenInvalid("an unknown key")
        try:
            jwt.decode_complete(token, key, algorithms=["EdDSA"], options=_SIGNATURE_ONLY)
        except jwt.PyJWTError as error:
            raise TokenInvalid(type(error).__name__) from error
        return self._claims(payload, key_id)

    def _claims(self, payload: Mapping[str, Json], key_id: str) -> Claims:
        claims = Claims(
            issuer=_text(payload, "iss"),
            subject=_text(payload, "sub"),
            session=_text(payload, "sid") if self._session else "",
            id=_text(payload, "jti"),
            issued=_moment(payload, "iat"),
            expires=_moment(payload, "exp"),
            key_id=key_id,
            all=payload,
        )
        begins = _moment(payload, "nbf") if "nbf" in payload else claims.issued
        if claims.issuer != (self._issuer or key_id.partition("#")[0]):
            raise TokenInvalid("another issuer")
        if _text(payload, "aud") != self._audience:
            raise TokenInvalid("another audience")
        if max(begins, claims.issued) > self._seconds() + _SKEW or claims.expires <= claims.issued:
            raise TokenInvalid("not valid at this time")
        if self._lifetime and claims.expires - claims.issued > self._lifetime.total_seconds():
            raise TokenInvalid("valid for too long")
        return claims


_SIGNATURE_ONLY: jwt.types.Options = {
    "verify_signature": True,
    "verify_aud": False,
    "verify_iss": False,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
    "require": [],
}


def unverified_type(token: str) -> str:
    """What a token says it is, before anything of it was checked: to choose its verifier, nothing else."""
    try:
        header, _ = _parts(token)
    except TokenInvalid:
        return ""
    kind = header.get("typ")
    return kind if isinstance(kind, str) else ""


def _parts(token: str) -> tuple[dict[str, Json], dict[str, Json]]:
    if not _FORM.fullmatch(token):
        raise TokenInvalid("not three parts")
    header, payload, _ = token.split(".")
    return _object(header), _object(payload)


def _object(part: str) -> dict[str, Json]:
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise TokenInvalid("not JSON") from error
    if not isinstance(value, dict):
        raise TokenInvalid("not an object")
    return value


def _each_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise ValueError("a name appears twice")
    return whole


def _text(payload: Mapping[str, Json], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise TokenInvalid(f"no usable {name}")
    return value


def _moment(payload: Mapping[str, Json], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int or not 0 < value < 1 << 40:
        raise TokenInvalid(f"no usable {name}")
    return value
