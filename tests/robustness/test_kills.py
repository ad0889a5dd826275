"""Rooms are killed again and again while clients send; nothing acknowledged is lost, doubled or stuck."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import httpx
import pytest

from chassis.tasks import Tasks
from tests.e2e.house import House, house, new_id
from tests.robustness.checker import ENDINGS, History, faults
from tests.robustness.client import Device, Reader, Told, device
from tests.robustness.mesh import machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SENDERS = 3
SUPERVISED = 10
KILLS = {False: 4, True: 200}
ROOMS = ("context", "context", "orchestrator", "llm")
WORDS = ("stream 40 tokens 10 ms apart", "What is 17*23?", "hello")


class Sender:
    """A client that sends one message after another to its own session, each until it is acknowledged."""

    def __init__(self, home: House, seed: int) -> None:
        self._home = home
        self._random = random.Random(seed)
        self._headers = {"authorization": f"Bearer {home.token()}"}
        self.session = new_id()
        self.acknowledged: set[str] = set()
        self.tried: set[str] = set()
        self.tries = 0

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop."""
        with httpx.Client(base_url=self._home.url, headers=self._headers, timeout=5) as http:
            self._insist(lambda: http.post("/v1/sessions", json={"sessionId": self.session}).is_success, stop)
            while not stop.is_set():
                message = new_id()
                words = self._random.choice(WORDS)
                self.tried.add(message)
                if self._insist(lambda: self._sent(http, message, words), stop):  # noqa: B023
                    self.acknowledged.add(message)
                stop.wait(self._random.random() * 0.2)

    def _sent(self, http: httpx.Client, message: str, words: str) -> bool:
        self.tries += 1
        body = {"message": {"clientMessageId": message, "parts": [{"text": words}]}}
        return "turnAccepted" in http.post(f"/v1/sessions/{self.session}/messages:send", json=body).text

    def _insist(self, act: object, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                if act():  # type: ignore[operator]
                    return True
            except httpx.TransportError:
                pass
            stop.wait(0.05)
        return False


def log_of(http: httpx.Client, session: str) -> list[dict[str, object]]:
    """The whole log, once every accepted turn of it is over; 90 s at most."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        events: list[dict[str, object]] = []
        at_end = False
        while not at_end:
            query: dict[str, str | int] = {"afterSequence": len(events), "pageSize": 1000}
            page = http.get(f"/v1/sessions/{session}/events", params=query).json()
            events += page.get("events", [])
            at_end = page.get("atEnd", False)
        accepted = sum("turnAccepted" in event for event in events)
        if sum(any(ending in event for ending in ENDINGS) for event in events) == accepted:
            return events
        time.sleep(0.2)
    return events


@pytest.mark.requirement("CHAT-2", "CHAT-4")
@pytest.mark.usefixtures("only_long")
def test_kills_in_mid_turn_lose_and_double_nothing() -> None:
    kills = SUPERVISED
    chance = random.Random(7)
    with house() as home:
        senders = [Sender(home, seed) for seed in range(SENDERS)]
        stop = threading.Event()
        threads = [threading.Thread(target=sender.run, args=(stop,), daemon=True) for sender in senders]
        for thread in threads:
            thread.start()
        killed = []
        for _ in range(kills):
            time.sleep(chance.random() * 1.5)
            killed.append(chance.choice(["context", "context", "orchestrator", "llm"]))
            home.kill(killed[-1])
            home.await_ready()
        stop.set()
        for thread in threads:
            thread.join(30)
        with home.http() as http:
            histories = [
                History(
                    session_id=sender.session,
                    acknowledged=frozenset(sender.acknowledged),
                    tried=frozenset(sender.tried),
                    log=log_of(http, sender.session),
                )
                for sender in senders
            ]
    wrong = [fault for history in histories for fault in faults(history)]
    acknowledged = sum(len(history.acknowledged) for history in histories)
    by_room = ", ".join(f"{killed.count(each)} {each}" for each in sorted(set(killed)))
    tell("kills under the supervisor", f"{kills} kills ({by_room}), {acknowledged} acknowledged", len(wrong))
    assert not wrong
    assert acknowledged > kills


@pytest.mark.requirement("CHAT-2", "CHAT-4")
async def test_two_hundred_kills_lose_and_double_nothing(long_loops: bool) -> None:
    kills, chance, ready = KILLS[long_loops], random.Random(23), []
    async with (
        machine("context", "orchestrator", "llm") as here,
        device(here.context(), here.operator()) as phone,
        Tasks() as tasks,
    ):
        sessions, tolds = (
            [await phone.new_session() for _ in range(SENDERS)],
            [Told() for _ in range(SENDERS)],
        )
        readers, stop = [Reader(phone, session) for session in sessions], asyncio.Event()
        for reader in readers:
            tasks.spawn("read", reader.run())
        talks = [
            tasks.spawn("talk", talk(phone, session, told, chance, stop))
            for session, told in zip(sessions, tolds, strict=True)
        ]
        for _ in range(kills):
            await asyncio.sleep(chance.random() * 0.6)
            victim = chance.choice(ROOMS)
            here.running[victim].kill()
            ready.append((await here.start(victim)).ready_seconds)
        stop.set()
        await asyncio.gather(*talks)
        for session, reader, told in zip(sessions, readers, tolds, strict=True):
            await reader.reach(int((await phone.settled(session))[-1]["sequence"]))
            told.readings.append(reader.reading())
        histories = [await phone.history(s, t) for s, t in zip(sessions, tolds, strict=True)]
    found = [fault for history in histories for fault in faults(history)]
    ready.sort()
    counted = f"{kills} kills, {sum(len(told.acknowledged) for told in tolds)} acknowledged"
    tell(
        "kills",
        f"{counted}, ready again p50 {ready[kills // 2]:.1f} s, longest {ready[-1]:.1f} s",
        len(found),
    )
    assert not found


async def talk(phone: Device, session: str, told: Told, chance: random.Random, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await phone.say(session, chance.choice(WORDS), told)
        await asyncio.sleep(chance.random() * 0.2)
