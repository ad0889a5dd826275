"""The one room that llm_svc dials: context_svc, for its feed of signing keys and ended sign-ins."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.identity.v1 import identity_pb2 as pb
from assistant.identity.v1 import identity_pb2_grpc as rpc
from chassis import ids
from chassis.dial import streaming
from chassis.trust import FOREVER, Alive, Changed, Frames, Key, Told, Whole

CALLEE = "context"
VERSION = "0.1.0"


_KNOWN = (
    pb.SIGNING_KEY_PURPOSE_ACCESS_TOKEN,
    pb.SIGNING_KEY_PURPOSE_API_TOKEN,
    pb.SIGNING_KEY_PURPOSE_GRANT,
)


class RevocationFeed:
    """WatchRevocations of context_svc, for `chassis.trust.follow`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.IdentityServiceStub(channel)
        self._request = pb.WatchRevocationsRequest(version=VERSION, instance_id=ids.uuid())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Frames]:
        """Begin a stream; leaving the block ends it."""
        async with streaming(self._stub.WatchRevocations(self._request)) as call:
            yield _frames(call)


async def _frames(call: AsyncIterable[pb.WatchRevocationsResponse]) -> Frames:
    async for frame in call:
        if frame.HasField("closed"):
            return
        yield frame.sequence, told(frame)


def told(frame: pb.WatchRevocationsResponse) -> Told:
    """What a frame says. A frame of a kind not known yet is a sign of life."""
    match frame.WhichOneof("frame"):
        case "state":
            return Whole(
                keys=_keys(frame.state),
                sign_ins=_sign_ins(frame.state),
                accounts=_accounts(frame.state),
            )
        case "change":
            return Changed(
                keys=_keys(frame.change),
                retired_keys=frozenset(frame.change.retired_key_ids),
                sign_ins=_sign_ins(frame.change),
                accounts=_accounts(frame.change),
                restored_accounts=frozenset(frame.change.restored_account_ids),
            )
        case _:
            return Alive()


def _keys(part: pb.RevocationState | pb.RevocationChange) -> dict[str, Key]:
    return {
        key.key_id: Key(
            jwk=json.loads(key.jwk_json),
            begin_us=_us(key.not_before_time),
            end_us=_us(key.not_after_time) if key.HasField("not_after_time") else FOREVER,
            grants=key.purpose == pb.SIGNING_KEY_PURPOSE_GRANT,
        )
        for key in part.signing_keys
        if key.purpose in _KNOWN
    }


def _sign_ins(part: pb.RevocationState | pb.RevocationChange) -> dict[str, int]:
    return {each.sign_in_id: _us(each.forget_time) for each in part.revoked_sign_ins}


def _accounts(part: pb.RevocationState | pb.RevocationChange) -> dict[str, int]:
    return {each.account_id: _us(each.forget_time) for each in part.revoked_accounts}


def _us(moment: Timestamp) -> int:
    return moment.ToMicroseconds()
