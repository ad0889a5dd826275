"""Both sockets: what each serves, to whom, and what happens to tokens that are not ours."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from typing import TypeAlias

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_reflection.v1alpha import reflection_pb2

from assistant.identity.v1 import identity_pb2
from assistant.operator.v1 import operator_pb2
from assistant.operator.v1.operator_pb2_grpc import OperatorServiceStub
from context_svc import access
from tests.interaction.context_svc.conftest import Room, Start, bearer
from tests.interaction.context_svc.refusal import refused

ME = identity_pb2.GetCurrentUserRequest()
Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


@pytest.mark.requirement("SAFE-1")
async def test_the_operators_socket_is_its_owners_alone_and_has_its_own_service(room: Room) -> None:
    assert stat.S_IMODE(room.operator_socket.stat().st_mode) == 0o600
    public = OperatorServiceStub(room.channel)
    assert await refused(public.GetSetupCode(operator_pb2.GetSetupCodeRequest())) == "NOT_SERVED"


@pytest.mark.parametrize("method", sorted(method for method, row in access.PUBLIC.items() if not row.served))
async def test_what_is_not_served_says_so(room: Room, method: str) -> None:
    call: Call = room.channel.unary_unary(method)
    assert await refused(call(b"")) == "NOT_SERVED"


@pytest.mark.parametrize(
    "method",
    sorted(
        method
        for method, row in access.PUBLIC.items()
        if row.served
        and row.audience.name == "USER"
        and "ChatService" not in method
        and "Agent" not in method
    ),
)
@pytest.mark.requirement("ID-3")
async def test_a_persons_call_needs_a_token(room: Room, method: str) -> None:
    call: Call = room.channel.unary_unary(method)
    assert await refused(call(b"")) == "TOKEN_MISSING"
    assert await refused(call(b"", metadata=bearer("guess"))) == "TOKEN_INVALID"


def parts(token: str) -> tuple[dict[str, object], dict[str, object]]:
    header, claims, _ = token.split(".")
    return decoded(header), decoded(claims)


def decoded(part: str) -> dict[str, object]:
    value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(value, dict)
    return value


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


FOREIGN = Ed25519PrivateKey.generate()
Forgery = Callable[[str, str], str]
"""Makes a forged token from a good one and the public key's text."""


def resigned(**changes: object) -> Forgery:
    def forge(token: str, x: str) -> str:
        header, claims = parts(token)
        return jwt.encode(
            claims,
            FOREIGN,
            algorithm="EdDSA",
            headers={"typ": header["typ"], "kid": header["kid"], **changes},
        )

    return forge


def spliced(header: dict[str, object], claims: dict[str, object]) -> Forgery:
    """The real signature under other words."""

    def forge(token: str, x: str) -> str:
        old_header, old_claims = parts(token)
        return ".".join((encoded(old_header | header), encoded(old_claims | claims), token.split(".")[2]))

    return forge


def with_public_key_as_secret(token: str, x: str) -> str:
    header, claims = parts(token)
    key = base64.urlsafe_b64decode(x + "=")
    headers = {"typ": header["typ"], "kid": header["kid"]}
    return jwt.encode(claims, key, algorithm="HS256", headers=headers)


FORGERIES: dict[str, Forgery] = {
    "alg none": lambda token, x: ".".join(
        (encoded(parts(token)[0] | {"alg": "none"}), token.split(".")[1], "")
    ),
    "HS256 keyed with the public key": with_public_key_as_secret,
    "a foreign key": resigned(),
    "a foreign key named in the header": resigned(jwk={"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
    "a key to be fetched": resigned(jku="https://example.org/jwks"),
    "an unknown key id": resigned(kid="../../etc/passwd"),
    "another person": spliced({}, {"sub": "someone-else"}),
    "another sign-in": spliced({}, {"sid": "someone-else"}),
    "a later end": spliced({}, {"exp": 1 << 39}),
    "another audience": spliced({}, {"aud": "other"}),
    "another kind": spliced({"typ": "JWT"}, {}),
    "no signature": lambda token, x: token.rsplit(".", 1)[0] + ".",
    "two tokens in one": lambda token, x: token + "." + token,
    "white space": lambda token, x: token + " ",
}


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_forged_token_is_refused_at_the_door(room: Room, kind: str) -> None:
    person = await room.register()
    token = person.answer.tokens.access_token
    jwks = json.loads((await room.identity.GetJwks(identity_pb2.GetJwksRequest())).data)
    forged = FORGERIES[kind](token, jwks["keys"][0]["x"])
    assert await refused(room.identity.GetCurrentUser(ME, metadata=bearer(forged))) == "TOKEN_INVALID"
    assert (await room.identity.GetCurrentUser(ME, metadata=bearer(token))).account.id


@pytest.mark.requirement("ID-3")
async def test_the_access_token_says_what_every_room_checks(room: Room) -> None:
    person = await room.register()
    header, claims = parts(person.answer.tokens.access_token)
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert {"alg", "typ", "kid"} == header.keys()
    assert (claims["iss"], claims["aud"], claims["sub"]) == (
        "assistant.mesh",
        "mesh",
        person.answer.account.id,
    )
    assert claims["exp"] - claims["iat"] == 600  # type: ignore[operator]
    assert {"sid", "jti", "nbf", "scope"} <= claims.keys()


async def test_two_tokens_at_once_and_other_schemes_are_no_token(room: Room) -> None:
    person = await room.register()
    token = person.answer.tokens.access_token
    for metadata in (
        person.metadata + person.metadata,
        (("authorization", f"bearer {token}"),),
        (("authorization", token),),
        (("cookie", f"authorization=Bearer {token}"),),
    ):
        assert await refused(room.identity.GetCurrentUser(ME, metadata=metadata)) == "TOKEN_MISSING"


async def test_the_server_tells_anybody_who_it_is_and_what_it_takes(start: Start) -> None:
    async with start(server_name="Home") as room:
        before = await room.identity.GetServerInfo(identity_pb2.GetServerInfoRequest())
        await room.register()
        after = await room.identity.GetServerInfo(identity_pb2.GetServerInfoRequest())
    assert before.registration == identity_pb2.REGISTRATION_MODE_SETUP_CODE
    assert after.registration == identity_pb2.REGISTRATION_MODE_INVITE
    assert (before.server_name, before.server_id) == ("Home", after.server_id)
    assert before.limits.message_characters == 100_000
    assert before.limits.heartbeat_interval.seconds == 15
    assert before.version
    async with start(open_registration=True) as room:
        again = await room.identity.GetServerInfo(identity_pb2.GetServerInfoRequest())
    assert again.registration == identity_pb2.REGISTRATION_MODE_OPEN
    assert again.server_id == before.server_id


async def test_keys_and_database_are_readable_by_their_owner_alone(room: Room) -> None:
    private = [*room.folder.glob("keys/users/*.key"), room.folder / "keys" / "context.secret"]
    assert len(private) == 2
    for path in (*private, *room.folder.glob("data/*.db")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in ("keys/users", "data"):
        assert stat.S_IMODE((room.folder / folder).stat().st_mode) == 0o700


async def test_reflection_lists_the_services(room: Room) -> None:
    call = room.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )([reflection_pb2.ServerReflectionRequest(list_services="")].__iter__())
    answer = await call.read()
    assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
    names = {each.name for each in answer.list_services_response.service}
    assert "assistant.session.v1.SessionService" in names
