"""The one room that media_svc dials: context_svc, for its feed of signing keys and ended sign-ins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.identity.v1 import identity_pb2 as pb
from assistant.identity.v1 import identity_pb2_grpc as rpc
from chassis import ids, telemetry
from chassis.clock import Clock
from chassis.dial import streaming
from chassis.keys import KeyRefused
from media_svc.trust import FOREVER, Alive, Changed, FeedBroken, Key, Told, Trust, Whole

CALLEE = "context"
VERSION = "0.1.0"
SILENCE = timedelta(seconds=10)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries

log = telemetry.logger(__name__)


class RevocationFeed:
    """Holds WatchRevocations open. `heard` is told true with each frame, false when it is lost."""

    def __init__(
        self, channel: grpc.aio.Channel, trust: Trust, clock: Clock, heard: Callable[[bool], None]
    ) -> None:
        self._stub = rpc.IdentityServiceStub(channel)
        self._trust = trust
        self._clock = clock
        self._heard = heard
        self._pause = _FIRST_PAUSE
        self._instance = ids.uuid()

    async def follow(self) -> NoReturn:
        """Keep the trust up to date until cancelled; open a stream that ended, broke or fell silent anew."""
        while True:
            try:
                await self._watch()
            except grpc.aio.AioRpcError as error:
                log.info("the revocation feed is away", code=error.code().name)
            except (FeedBroken, KeyRefused, ValueError, TimeoutError) as error:
                log.warning("the revocation feed was cut", why=type(error).__name__)
            self._heard(False)
            await self._clock.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _watch(self) -> None:
        request = pb.WatchRevocationsRequest(version=VERSION, instance_id=self._instance)
        self._trust.begin()
        async with streaming(self._stub.WatchRevocations(request)) as frames:
            while True:
                async with asyncio.timeout(SILENCE.total_seconds()):
                    frame = await frames.read()
                if not isinstance(frame, pb.WatchRevocationsResponse) or frame.HasField("closed"):
                    return
                self._trust.receive(frame.sequence, told(frame))
                self._pause = _FIRST_PAUSE
                self._heard(True)


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
        )
        for key in part.signing_keys
        if key.purpose == pb.SIGNING_KEY_PURPOSE_ACCESS_TOKEN
    }


def _sign_ins(part: pb.RevocationState | pb.RevocationChange) -> dict[str, int]:
    return {each.sign_in_id: _us(each.forget_time) for each in part.revoked_sign_ins}


def _accounts(part: pb.RevocationState | pb.RevocationChange) -> dict[str, int]:
    return {each.account_id: _us(each.forget_time) for each in part.revoked_accounts}


def _us(moment: Timestamp) -> int:
    return moment.ToMicroseconds()
