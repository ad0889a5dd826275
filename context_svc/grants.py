"""Grants: signed leave for one room to act for one person, in one turn or job, for a minute at most."""

from __future__ import annotations

from enum import StrEnum

from chassis.auth import GRANT, GRANT_LIFETIME
from chassis.clock import Clock
from chassis.tokens import GRANT_TOKEN
from context_svc.signing import UserKeys

RENEWAL = GRANT_LIFETIME.total_seconds() / 2


class Work(StrEnum):
    """What a grant is for: the claim that holds its id."""

    TURN = "turn"
    JOB = "job"


class Grants:
    """Signs them, with keys that sign nothing else."""

    def __init__(self, keys: UserKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, *, account: str, work: Work, id: str, callee: str, session: str = "") -> str:
        """Leave for calls to `callee` for this account, within this turn or job of this session."""
        now = self._clock.now_us() // 1_000_000
        claims: dict[str, object] = {
            "sub": account,
            "aud": callee,
            work.value: id,
            "iat": now,
            "exp": now + round(GRANT_LIFETIME.total_seconds()),
        }
        if session:
            claims["sid"] = session
        return self._keys.grant_signer.sign(claims, typ=GRANT_TOKEN)

    def for_job(self, account: str, job: str, *, callee: str = "media") -> tuple[tuple[str, str]]:
        """The metadata of a call that context_svc makes itself, for a job (or what stands for one: a claim)."""
        return ((GRANT, self.issue(account=account, work=Work.JOB, id=job, callee=callee)),)

    async def due(self) -> None:
        """Return when a grant issued at the call should be replaced: at half of its life."""
        await self._clock.sleep(RENEWAL)
