"""The one room this one calls: context_svc, for the feed of signing keys and ended sign-ins."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable

import grpc

from assistant.identity.v1 import identity_pb2 as pb
from assistant.identity.v1 import identity_pb2_grpc as rpc
from chassis import ids, telemetry
from chassis.auth import Revocations
from chassis.clock import Clock
from chassis.dial import streaming
from chassis.keys import KeySet

log = telemetry.logger(__name__)

RETRY_SECONDS = 1.0
_USERS = {pb.SIGNING_KEY_PURPOSE_ACCESS_TOKEN, pb.SIGNING_KEY_PURPOSE_API_TOKEN}


class Trust:
    """What the feed has told so far, applied to the keys and the revocations of this room."""

    def __init__(self, keys: KeySet, revocations: Revocations, clock: Clock) -> None:
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self._known: dict[str, pb.SigningKey] = {}
        self._trusted: set[str] = set()
        self._sign_ins: set[str] = set()
        self._accounts: set[str] = set()
        self._next = 1

    def apply(self, frame: pb.WatchRevocationsResponse) -> bool:
        """Take one frame. False when the feed must be opened anew: it ended, or a frame is missing."""
        kind = frame.WhichOneof("frame")
        if kind == "closed" or (kind != "state" and frame.sequence != self._next):
            return False
        self._next = frame.sequence + 1
        match kind:
            case "state":
                self._known, self._sign_ins, self._accounts = {}, set(), set()
                self._add(frame.state)
            case "change":
                self._drop(frame.change)
                self._add(frame.change)
        self._trust_now()
        self._revocations.replace(sign_ins=self._sign_ins, accounts=self._accounts)
        return True

    def _add(self, told: pb.RevocationState | pb.RevocationChange) -> None:
        self._known |= {key.key_id: key for key in told.signing_keys if key.purpose in _USERS}
        self._sign_ins |= {each.sign_in_id for each in told.revoked_sign_ins}
        self._accounts |= {each.account_id for each in told.revoked_accounts}

    def _drop(self, told: pb.RevocationChange) -> None:
        for key_id in told.retired_key_ids:
            self._known.pop(key_id, None)
        self._accounts -= set(told.restored_account_ids)

    def _trust_now(self) -> None:
        """Keys end by themselves, without a word of the feed."""
        now = self._clock.now_us() // 1_000_000
        good = [key for key in self._known.values() if _is_good(key, now)]
        if {key.key_id for key in good} != self._trusted:
            self._keys.replace(json.loads(key.jwk_json) for key in good)
            self._trusted = {key.key_id for key in good}


def _is_good(key: pb.SigningKey, now: int) -> bool:
    ended = key.HasField("not_after_time") and key.not_after_time.seconds <= now
    return not ended and (not key.HasField("not_before_time") or key.not_before_time.seconds <= now)


class RevocationFeed:
    """Holds the feed open for as long as the room runs; without it for 10 s users are refused."""

    def __init__(self, channel: grpc.aio.Channel, trust: Trust, clock: Clock, *, version: str) -> None:
        self._stub = rpc.IdentityServiceStub(channel)
        self._trust = trust
        self._clock = clock
        self._request = pb.WatchRevocationsRequest(version=version, instance_id=ids.uuid())

    async def follow(self) -> None:
        """Never returns: opens the feed again a second after it ended, however it ended."""
        while True:
            try:
                async with streaming(self._stub.WatchRevocations(self._request)) as frames:
                    await self._take(frames)
            except grpc.aio.AioRpcError as broken:
                log.warning("feed of revocations broken", code=broken.code().name)
            await self._clock.sleep(RETRY_SECONDS)

    async def _take(self, frames: AsyncIterable[pb.WatchRevocationsResponse]) -> None:
        async for frame in frames:
            if not self._trust.apply(frame):
                return
