"""Thousands of generated requests at every door: none crashes a room, is answered by a fault, or shows its inside."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import SerializeToJsonError
from google.protobuf.message import Message

from chassis.access import Audience
from tests.edge.test_matrix import House, has, house
from tests.interaction.trust.contract import Rpc, rpcs
from tests.interaction.trust.doors import Outcome
from tests.interaction.trust.test_strangers import asked, belongings
from tests.robustness.generated import Generator
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.requirement("SAFE-4")]

REQUESTS = {False: 900, True: 25_000}
FIRST = 0  # another number makes other requests
AT_ONCE = 12
PEOPLE = 6  # so that no account's limits end the loop
ENDS = {
    "DeleteAccount",
    "Logout",
    "ChangePassword",
    "RevokeDevice",
    "RevokeApiToken",
}  # who asks them is gone
_INSIDE = re.compile(
    rb"Traceback|File \"|site-packages|sqlite3?\.|asyncpg|psycopg|SELECT |INSERT |UPDATE \w+ SET|grpc\.|obstore"
    rb"|object at 0x|/tmp/|_svc/|chassis|NoneType|KeyError|ValueError|TypeError|AttributeError|object_store"
)


async def test_generated_requests_are_answered_or_refused_by_name(tmp_path: Path, long_loops: bool) -> None:
    async with house(tmp_path) as here:
        faults, counted = await Loop(here).run(REQUESTS[long_loops])
        assert (await here.doors["gRPC"].ask(_rpc("GetServerInfo"), None, {})).reason == ""
    reasons = ", ".join(f"{name or 'answered'} {many}" for name, many in counted.most_common(6))
    tell("generated requests", f"{counted.total()} at three doors: {reasons}", len(faults))
    assert not faults, "\n".join(faults[:20])


class Broken:
    """A request whose bytes may be no message."""

    def __init__(self, generator: Generator, request: Message) -> None:
        self.DESCRIPTOR = request.DESCRIPTOR
        self._bytes = generator.garbage(request.SerializeToString())

    def SerializeToString(self) -> bytes:
        return self._bytes


def _rpc(name: str) -> Rpc:
    return next(rpc for rpc in rpcs() if str(rpc) == name)


class Loop:
    """Asks, several at once, and keeps what should not have been answered."""

    def __init__(self, here: House) -> None:
        self._here = here
        self._faults: list[str] = []
        self._counted: Counter[str] = Counter()

    async def run(self, many: int) -> tuple[list[str], Counter[str]]:
        """The faults, and how many answers of each reason there were."""
        mesh = self._here.mesh
        people = [self._here.anna, *[await mesh.register(f"p{n}@example.org") for n in range(1, PEOPLE)]]
        owned = [(person, await belongings(mesh, person)) for person in people]
        leaver = (leaves := await mesh.register("leaver@example.org"), await belongings(mesh, leaves))
        public = [rpc for rpc in rpcs() if rpc.public and rpc.policy.served]
        numbers = iter(range(FIRST, FIRST + many))

        async def ask() -> None:
            for number in numbers:
                rpc = public[number // len(self._here.doors) % len(public)]
                person, named = leaver if str(rpc) in ENDS else owned[number % len(owned)]
                generator = Generator(number, named)
                door = list(self._here.doors)[number % len(self._here.doors)]
                if not has(door, rpc):
                    continue
                request: Any = generator.request(type(rpc.request()), asked(rpc, named))
                headers = {} if rpc.policy.audience is Audience.OPEN else dict(person.metadata)
                if number % 20 == 0 and door != "JSON":
                    request = Broken(generator, request)
                try:
                    outcome = await self._here.doors[door].ask(rpc, request, headers)
                except SerializeToJsonError:  # JSON has no word for it
                    continue
                except (AssertionError, ValueError, httpx.HTTPError) as error:
                    self._faults.append(f"{number} {rpc} {door}: {error!r}")
                    continue
                self._note(number, rpc, door, outcome)

        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        return self._faults, self._counted

    def _note(self, number: int, rpc: Rpc, door: str, outcome: Outcome) -> None:
        self._counted[outcome.reason] += 1
        shown = _INSIDE.search(outcome.body) or _INSIDE.search(outcome.message.encode())
        if outcome.code in (2, 13) or outcome.reason in ("INTERNAL", "NONE") or (outcome.reason and shown):
            told = replace(outcome, body=outcome.body[:300])
            self._faults.append(f"{number} {rpc} {door}: {told}")
