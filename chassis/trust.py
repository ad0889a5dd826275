"""Whose tokens a room believes, as a feed tells it: keys that sign, sign-ins that ended.

Knows no message of a contract: a room's `peers` reads those. The first frame of a stream is the whole state; a gap
in the numbers, or anything before the state, means that the stream is to be opened anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NoReturn, TypeAlias, assert_never

import grpc

from chassis import telemetry
from chassis.auth import Revocations
from chassis.clock import Clock
from chassis.keys import Jwk, KeyRefused, KeySet

log = telemetry.logger(__name__)

SILENCE = timedelta(seconds=10)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries

FOREVER = 2**62
_SKEW_US = 5_000_000  # how far the clocks of two machines may differ


class FeedBroken(Exception):
    """The feed left out a frame, or did not begin with the whole state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A public key and the time, in microseconds since 1970, in which its signatures count.

    With `grants` it signs what lets a room act for a person, else what people themselves show.
    """

    jwk: Jwk
    begin_us: int
    end_us: int
    grants: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """Everything there is to know. What ended stands with the moment from which it may be forgotten."""

    keys: Mapping[str, Key] = field(default_factory=dict)
    sign_ins: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """What one commit changed."""

    keys: Mapping[str, Key] = field(default_factory=dict)
    retired_keys: frozenset[str] = frozenset()
    sign_ins: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)
    restored_accounts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing changed."""


Told: TypeAlias = Whole | Changed | Alive


class Trust:
    """Keeps key sets and a list of revocations as the feed says; without `grants` their keys are left out."""

    def __init__(
        self, keys: KeySet, revocations: Revocations, clock: Clock, *, grants: KeySet | None = None
    ) -> None:
        self._keys = keys
        self._grants = grants
        self._revocations = revocations
        self._clock = clock
        self._whole = Whole()
        self._sequence = 0
        self._shown: frozenset[str] = frozenset()

    def begin(self) -> None:
        """A new stream was opened; what is known stays until its state comes."""
        self._sequence = 0

    def receive(self, sequence: int, told: Told) -> None:
        """Take the next frame. Raises FeedBroken, and KeyRefused for a key that is no Ed25519 key."""
        if sequence != self._sequence + 1 or (sequence == 1) is not isinstance(told, Whole):
            raise FeedBroken(f"frame {sequence} after {self._sequence}")
        self._sequence = sequence
        match told:
            case Whole():
                self._whole, self._shown = told, frozenset()
            case Changed():
                self._whole = _merged(self._whole, told)
            case Alive():
                pass
            case _:
                assert_never(told)
        self._show()

    def _show(self) -> None:
        """Hand on what counts at this moment: a key whose end has come goes without a further word."""
        now = self._clock.now_us()
        valid = {
            name: key for name, key in self._whole.keys.items() if key.begin_us - _SKEW_US <= now < key.end_us
        }
        if valid.keys() != self._shown:
            self._keys.replace([key.jwk for key in valid.values() if not key.grants])
            if self._grants is not None:
                self._grants.replace([key.jwk for key in valid.values() if key.grants])
            self._shown = frozenset(valid)
        self._revocations.replace(
            sign_ins=[each for each, forget_us in self._whole.sign_ins.items() if forget_us > now],
            accounts=[each for each, forget_us in self._whole.accounts.items() if forget_us > now],
        )


Frames: TypeAlias = AsyncIterator[tuple[int, Told]]
"""The frames of one stream with their numbers. Ends when the feed closes; raises AioRpcError when it breaks."""


async def follow(
    open_feed: Callable[[], AbstractAsyncContextManager[Frames]],
    trust: Trust,
    clock: Clock,
    heard: Callable[[bool], None],
) -> NoReturn:
    """Keep the trust up to date until cancelled; open a stream that ended, broke or fell silent anew.

    `heard` is told true with each frame, false when the feed is lost.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            async with open_feed() as frames:
                trust.begin()
                while (frame := await _within(SILENCE, frames)) is not None:
                    trust.receive(*frame)
                    heard(True)
                    pause = _FIRST_PAUSE
        except grpc.aio.AioRpcError as error:
            log.info("the revocation feed is away", code=error.code().name)
        except (FeedBroken, KeyRefused, ValueError, TimeoutError) as error:
            log.warning("the revocation feed was cut", why=type(error).__name__)
        heard(False)
        await clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _within(limit: timedelta, frames: Frames) -> tuple[int, Told] | None:
    async with asyncio.timeout(limit.total_seconds()):
        return await anext(frames, None)


def _merged(whole: Whole, changed: Changed) -> Whole:
    keys = {**whole.keys, **changed.keys}
    accounts = {**whole.accounts, **changed.accounts}
    return Whole(
        keys={name: key for name, key in keys.items() if name not in changed.retired_keys},
        sign_ins={**whole.sign_ins, **changed.sign_ins},
        accounts={each: us for each, us in accounts.items() if each not in changed.restored_accounts},
    )
