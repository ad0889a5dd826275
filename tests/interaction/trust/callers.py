"""Who comes to the doors: each kind of caller that has to be told apart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assistant.identity.v1 import identity_pb2
from chassis import ids
from chassis.access import ANY_SCOPE, Audience
from chassis.keys import to_jwk
from chassis.tokens import GRANT_TOKEN, ROOM_TOKEN, USER_TOKEN, Signer
from tests.interaction.trust.contract import Rpc
from tests.interaction.trust.rooms import Mesh, Person

MADE_UP = "a made-up account"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of caller: the headers it comes with, and what a room says to it for each RPC."""

    headers: Mapping[str, str]
    refusal: Callable[[Rpc], str]


async def kinds(mesh: Mesh, anna: Person) -> dict[str, Kind]:
    """Each kind, made anew. Anna loses nothing but a second device."""
    second = await mesh.log_in(anna)
    await mesh.accounts.RevokeDevice(
        identity_pb2.RevokeDeviceRequest(device_id=second.device_id), metadata=anna.metadata
    )
    narrow = {
        scope: await _limited(mesh, anna, scope)
        for scope in (identity_pb2.TOKEN_SCOPE_KNOWLEDGE, identity_pb2.TOKEN_SCOPE_APPROVE)
    }
    forge = Forge(mesh=mesh, account=anna.account)
    past = forge.now - 700
    return {
        "nobody": Kind(headers={}, refusal=_for_everybody_else("TOKEN_MISSING")),
        "garbage": _bearing("garbage", "TOKEN_INVALID"),
        "expired": _bearing(forge.good(iat=past, nbf=past, exp=past + 600), "TOKEN_EXPIRED", "TOKEN_INVALID"),
        "another audience": _bearing(forge.good(aud="elsewhere"), "TOKEN_INVALID"),
        "a revoked device": _bearing(second.tokens.access_token, "TOKEN_REVOKED", "TOKEN_INVALID"),
        "a token for documents alone": Kind(
            headers=bearer(narrow[identity_pb2.TOKEN_SCOPE_KNOWLEDGE]), refusal=_scoped("knowledge")
        ),
        "a token for approvals alone": Kind(
            headers=bearer(narrow[identity_pb2.TOKEN_SCOPE_APPROVE]), refusal=_scoped("approve")
        ),
        "a room": Kind(headers=bearer(forge.stranger()), refusal=_for_everybody_else("TOKEN_INVALID")),
    }


def bearer(token: str) -> dict[str, str]:
    """The headers of a call with this token."""
    return {"authorization": f"Bearer {token}"}


def _bearing(token: str, refusal: str, internal: str = "") -> Kind:
    return Kind(headers=bearer(token), refusal=_for_everybody_else(refusal, internal or refusal))


def _for_everybody_else(refusal: str, internal: str = "") -> Callable[[Rpc], str]:
    def said(rpc: Rpc) -> str:
        match rpc.policy.audience:
            case Audience.USER:
                return refusal
            case Audience.ROOM:
                return internal or refusal
            case _:
                return ""

    return said


def _scoped(scope: str) -> Callable[[Rpc], str]:
    def said(rpc: Rpc) -> str:
        if rpc.policy.audience is Audience.ROOM:
            return "TOKEN_INVALID"
        if rpc.policy.audience is not Audience.USER or rpc.policy.scope in (ANY_SCOPE, scope):
            return ""
        return "CALLER_NOT_ALLOWED" if rpc.policy.scope is None else "SCOPE_MISSING"

    return said


async def _limited(mesh: Mesh, person: Person, scope: identity_pb2.TokenScope.ValueType) -> str:
    made = await mesh.accounts.CreateApiToken(
        identity_pb2.CreateApiTokenRequest(request_id=ids.uuid(), name="narrow", scopes=[scope]),
        metadata=person.metadata,
    )
    return str(made.secret)


@dataclass(frozen=True, kw_only=True)
class Forge:
    """Makes tokens, good and forged, of a mesh whose keys it has read."""

    mesh: Mesh
    account: str

    @property
    def now(self) -> int:
        return self.mesh.clock.now_us() // 1_000_000

    @property
    def signer(self) -> Signer:
        return self.mesh.signing().signer

    def claims(self, **changes: object) -> dict[str, object]:
        whole = {
            "iss": self.signer.issuer,
            "jti": ids.uuid(),
            "sub": self.account,
            "sid": ids.uuid(),
            "aud": "mesh",
            "iat": self.now,
            "nbf": self.now,
            "exp": self.now + 600,
            "scope": "",
            "gen": 0,
        }
        return {name: value for name, value in {**whole, **changes}.items() if value is not None}

    def good(self, **changes: object) -> str:
        """A token that context_svc itself might have signed, but for the changes."""
        return self.signer.sign(self.claims(**changes))

    def stranger(self) -> str:
        """A room's token for a room that does not exist, of a key that nobody knows."""
        signer = Signer(Ed25519PrivateKey.generate(), "room:stranger", "room:stranger")
        claims = {"sub": "stranger", "aud": "llm", "iat": self.now, "exp": self.now + 60}
        return signer.sign(claims, typ=ROOM_TOKEN)

    def header(self, **changes: object) -> dict[str, object]:
        whole: dict[str, object] = {"alg": "EdDSA", "typ": USER_TOKEN, "kid": self.signer.key_id, **changes}
        return {name: value for name, value in whole.items() if value is not None}

    def raw(self, header: object, claims: object, *, key: Any = None) -> str:
        """Whatever is put in, signed with context_svc's key (or another): the forger's best case."""
        parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, claims)]
        text = ".".join(map(_b64, parts))
        return f"{text}.{_b64((key or self.signer._key).sign(text.encode()))}"

    def hmac(self, secret: bytes, alg: str = "HS256") -> str:
        text = ".".join(_b64(json.dumps(each).encode()) for each in (self.header(alg=alg), self.claims()))
        return f"{text}.{_b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    def unsigned(self, alg: str) -> str:
        return self.raw(self.header(alg=alg), self.claims()).rpartition(".")[0] + "."

    def forgeries(self) -> dict[str, Mapping[str, str]]:
        """The headers of each forged kind."""
        return {name: bearer(token) for name, token in self._tokens().items()} | self._headers()

    def _tokens(self) -> dict[str, str]:
        public, stranger = self.signer.public_key, Ed25519PrivateKey.generate()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        jwk = to_jwk(self.signer.key_id, public)
        header, claims, good = self.header, self.claims, self.good()
        body, _, _ = good.rpartition(".")
        now = self.now
        return {
            "alg none": self.unsigned("none"),
            "alg None": self.unsigned("None"),
            "alg nOnE": self.raw(header(alg="nOnE"), claims()),
            "HS256 with the public PEM": self.hmac(pem),
            "HS256 with the public DER": self.hmac(der),
            "HS256 with the raw public key": self.hmac(raw),
            "HS256 with the JWK": self.hmac(json.dumps(jwk).encode()),
            "HS512": self.hmac(pem, "HS512"),
            "ES256 with a zero signature": f"{_b64(json.dumps(header(alg='ES256')).encode())}."
            f"{_b64(json.dumps(claims()).encode())}.{_b64(bytes(64))}",
            "EdDSA with a zero signature": f"{body}.{_b64(bytes(64))}",
            "EdDSA of a small-order point": f"{body}.{_b64(bytes([1]) + bytes(63))}",
            "a stripped signature": body + ".",
            "a cut signature": good[:-2],
            "another token's signature": f"{body}.{self.good().rpartition('.')[2]}",
            "a foreign key": self.raw(header(), claims(), key=stranger),
            "an unknown kid": self.raw(header(kid=ids.uuid()), claims()),
            "no kid": self.raw(header(kid=None), claims()),
            "kid a path": self.raw(header(kid="../../keys/users/x"), claims()),
            "kid SQL": self.raw(header(kid="' OR '1'='1"), claims()),
            "kid a list": self.raw(header(kid=[self.signer.key_id]), claims()),
            "kid of the grants' key": self.raw(header(kid=self.mesh.signing().grant_signer.key_id), claims()),
            "signed as a grant": self.mesh.signing().grant_signer.sign(claims()),
            "jwk header": self.raw(header(jwk=to_jwk("x", stranger.public_key())), claims(), key=stranger),
            "jku header": self.raw(header(jku="https://evil.test/jwks"), claims()),
            "x5u header": self.raw(header(x5u="https://evil.test/x"), claims()),
            "x5c header": self.raw(header(x5c=["MIIB"]), claims()),
            "b64 false with crit": self.raw(header(b64=False, crit=["b64"]), claims()),
            "an unknown crit": self.raw(header(crit=["evil"], evil=True), claims()),
            "zip header": self.raw(header(zip="DEF"), claims()),
            "typ JWT": self.raw(header(typ="JWT"), claims()),
            "typ refresh": self.raw(header(typ="refresh+jwt"), claims()),
            "typ of a room": self.raw(header(typ=ROOM_TOKEN), claims()),
            "typ of a grant": self.raw(header(typ=GRANT_TOKEN), claims()),
            "no typ": self.raw(header(typ=None), claims()),
            "aud a list": self.raw(header(), claims(aud=["mesh"])),
            "aud missing": self.raw(header(), claims(aud=None)),
            "aud longer": self.raw(header(), claims(aud="mesh2")),
            "aud a room": self.raw(header(), claims(aud="llm")),
            "iss with an end": self.raw(header(), claims(iss=f"{self.signer.issuer}.evil")),
            "iss a list": self.raw(header(), claims(iss=[self.signer.issuer])),
            "iss missing": self.raw(header(), claims(iss=None)),
            "sub missing": self.raw(header(), claims(sub=None)),
            "sub a number": self.raw(header(), claims(sub=7)),
            "sub empty": self.raw(header(), claims(sub="")),
            "sid missing": self.raw(header(), claims(sid=None)),
            "jti missing": self.raw(header(), claims(jti=None)),
            "exp text": self.raw(header(), claims(exp=str(now + 600))),
            "exp a fraction": self.raw(header(), claims(exp=now + 600.5)),
            "exp 1e30": self.raw(header(), claims(exp=10**30)),
            "exp negative": self.raw(header(), claims(exp=-1)),
            "exp missing": self.raw(header(), claims(exp=None)),
            "exp true": self.raw(header(), claims(exp=True)),
            "nbf in the future": self.raw(header(), claims(nbf=now + 300)),
            "iat in the future": self.raw(header(), claims(iat=now + 300)),
            "iat missing": self.raw(header(), claims(iat=None)),
            "a claim twice": self.raw(header(), json.dumps(claims())[:-1].encode() + b',"sub":"other"}'),
            "a header twice": self.raw(json.dumps(header())[:-1].encode() + b',"alg":"none"}', claims()),
            "UTF-16": self.raw(header(), json.dumps(claims()).encode("utf-16")),
            "claims a list": self.raw(header(), []),
            "claims a token": self.raw(header(), good.encode()),
            "a header for JWE": f"{_b64(json.dumps({'alg': 'dir', 'enc': 'A256GCM'}).encode())}..x.y.z",
            "doubled dots": good.replace(".", ".."),
            "four parts": good + ".x",
            "trailing space": good + " x",
            "inner space": good.replace(".", " ."),
            "longer than 4 KiB": self.good(more="x" * 4096),
        }

    def _headers(self) -> dict[str, Mapping[str, str]]:
        good = self.good()
        return {
            "lower-case bearer": {"authorization": f"bearer {good}"},
            "Basic": {"authorization": f"Basic {good}"},
            "bare": {"authorization": good},
            "in a cookie": {"cookie": f"authorization=Bearer {good}; token={good}"},
            "in another header": {
                "x-authorization": f"Bearer {good}",
                "proxy-authorization": f"Bearer {good}",
            },
        }


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
