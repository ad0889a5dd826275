"""Streams are cut a thousand times, Envoy among what dies: every reader ends with the whole log, each event once."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack

import pytest

from chassis.tasks import Tasks
from tests.robustness.checker import faults
from tests.robustness.client import Device, Reader, Told, device
from tests.robustness.fault_proxy import Fault, FaultProxy, Mode
from tests.robustness.mesh import front, machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CUTS = {False: 30, True: 1000}
ENVOYS = {False: 1, True: 10}
MODES: tuple[Mode, ...] = ("rst", "fin", "half_open", "slices", "latency", "slow_close", "pass")


@pytest.mark.requirement("CHAT-3")
async def test_readers_over_a_thousand_cuts_get_each_event_once(long_loops: bool) -> None:
    cuts, chance = CUTS[long_loops], random.Random(3)
    async with machine("context", "orchestrator", "llm") as here:
        with ExitStack() as stack:
            edge = stack.enter_context(front(here))
            proxy = FaultProxy(edge.port)
            async with proxy.running(), device(here.context(), here.operator()) as phone, Tasks() as tasks:
                session, told = await phone.new_session(), Told()
                readers = []
                for number in range(3):
                    tablet = Device(f"127.0.0.1:{proxy.port}")
                    tablet.tokens = phone.tokens
                    readers.append(Reader(tablet, session, f"reader {number}"))
                    tasks.spawn("read", readers[-1].run())
                talking = tasks.spawn("talk", talk(phone, session, told, readers, cuts))
                while not talking.done():
                    mode = chance.choice(MODES)
                    proxy.fault = Fault(mode=mode, after=chance.randrange(20_000), seconds=0.2)
                    await asyncio.sleep(0.02)
                    proxy.cut_all(chance.choice(("rst", "fin")))
                await talking
                for _ in range(ENVOYS[long_loops]):
                    edge.process.kill()
                    edge.process.wait(10)
                    edge = stack.enter_context(front(here))
                    proxy.target = edge.port
                    proxy.cut_all("rst")
                    await phone.say(session, "stream 20 tokens 5 ms apart", told)
                proxy.heal()
                proxy.cut_all("fin")
                last = int((await phone.settled(session))[-1]["sequence"])
                await asyncio.gather(*(reader.reach(last) for reader in readers))
                told.readings += [reader.reading() for reader in readers]
                found = faults(await phone.history(session, told))
                for reader in readers:
                    await reader.device.close()
    counted = sum(reader.cuts for reader in readers)
    tell(
        "streams cut",
        f"{counted} cuts of 3 readers, {ENVOYS[long_loops]} Envoys killed, {last} events each",
        len(found),
    )
    assert not found
    assert counted >= cuts


async def talk(phone: Device, session: str, told: Told, readers: list[Reader], cuts: int) -> None:
    """Say things until there were that many cuts."""
    while sum(reader.cuts for reader in readers) < cuts:
        await phone.say(session, "stream 20 tokens 5 ms apart", told)
        await asyncio.sleep(0.05)
