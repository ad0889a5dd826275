"""Each message is sent one to five times over bad connections, by new sign-ins and devices: it runs once."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from tests.robustness.checker import Balance, balance_faults, faults
from tests.robustness.client import Device, Told, device
from tests.robustness.fault_proxy import Fault, FaultProxy
from tests.robustness.mesh import Machine, front, machine
from tests.robustness.provider import TOKENS, Provider
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

MESSAGES = {False: 40, True: 1000}
SESSIONS = 4
SIGN_INS = 3


@pytest.mark.requirement("CHAT-2")
@pytest.mark.parametrize("kills", [False, True], ids=["no kills", "kills"])
async def test_messages_sent_again_and_again_run_once(long_loops: bool, kills: bool) -> None:
    count, chance = MESSAGES[long_loops], random.Random(17)
    async with (
        Provider(counts="numbered message").running() as provider,
        machine("context", "orchestrator", "llm", **provider.settings) as here,
    ):
        with front(here) as edge:
            proxy = FaultProxy(edge.port)
            async with proxy.running(), device(here.context(), here.operator()) as phone:
                sessions = [await phone.new_session() for _ in range(SESSIONS)]
                tolds = [Told() for _ in sessions]
                devices = [
                    await signed_in(here.context(), f"127.0.0.1:{proxy.port}") for _ in range(SIGN_INS)
                ]
                breaking = asyncio.ensure_future(keep_breaking(proxy, chance))
                killed: list[int] = []
                killing = asyncio.ensure_future(
                    keep_killing(here, tolds, count // 10 if kills else count, killed)
                )
                requests = [
                    (
                        number % SESSIONS,
                        phone.message(sessions[number % SESSIONS], f"numbered message {number}"),
                    )
                    for number in range(count)
                ]
                work = asyncio.Queue[tuple[int, chat_pb2.SendMessageRequest]]()
                for each in repeated(requests, chance):
                    work.put_nowait(each)
                await asyncio.gather(
                    *(send_all(work, each, tolds, pause=0.3 * kills) for each in devices for _ in range(2))
                )
                breaking.cancel()
                await stopped(killing, here)
                proxy.heal()
                for place, request in requests:  # whoever got no answer asks until there is one
                    if request.message.client_message_id not in tolds[place].acknowledged:
                        await phone.insist(lambda r=request, p=place: phone.send(r, tolds[p]))  # type: ignore[misc]
                histories = [
                    await phone.history(session, told) for session, told in zip(sessions, tolds, strict=True)
                ]
                for sender in devices:
                    await sender.close()
    balance = Balance(provider_calls=provider.calls, provider_tokens=provider.calls * TOKENS)
    found = [fault for each in histories for fault in faults(each)]
    found += (
        [] if kills else balance_faults(histories, balance)
    )  # what a kill interrupts is reported by nobody
    turns = sum("turnAccepted" in event for each in histories for event in each.log)
    answered = sum(len(replies) for told in tolds for replies in told.replies.values())
    tell(
        "messages sent 1-5 times" + (", kills" if kills else ""),
        f"{count} messages, {answered} answers, {turns} turns, {provider.calls} calls, {proxy.cuts} cuts,"
        f" {len(killed)} kills",
        len(found),
    )
    assert not found
    assert turns == count
    assert provider.calls <= count
    assert bool(killed) is kills


def repeated(
    requests: list[tuple[int, chat_pb2.SendMessageRequest]], chance: random.Random
) -> list[tuple[int, chat_pb2.SendMessageRequest]]:
    """Each one to five times, out of order within a stretch."""
    all_of_them = [each for each in requests for _ in range(chance.randint(1, 5))]
    stretches = [all_of_them[at : at + 30] for at in range(0, len(all_of_them), 30)]
    for stretch in stretches:
        chance.shuffle(stretch)
    return [each for stretch in stretches for each in stretch]


async def signed_in(direct: str, address: str) -> Device:
    """A device that signed in, and calls through the bad connection from now on."""
    made = Device(direct)
    await made.log_in()
    await made.redial(address)
    return made


async def send_all(
    work: asyncio.Queue[tuple[int, chat_pb2.SendMessageRequest]],
    sender: Device,
    tolds: list[Told],
    *,
    pause: float,
) -> None:
    """Send what there is, once each, whether it is answered or not; after a refusal wait for `pause` seconds."""
    while not work.empty():
        place, request = work.get_nowait()
        try:
            await sender.send(request, tolds[place])
        except grpc.aio.AioRpcError as error:
            sender.refused.append(error.code())
            await asyncio.sleep(pause)


async def keep_killing(here: Machine, tolds: list[Told], every: int, killed: list[int]) -> None:
    """Kill and start context_svc each time that so many more messages were acknowledged."""
    while True:
        while sum(len(told.acknowledged) for told in tolds) < every * (len(killed) + 1):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        here.running["context"].kill()
        killed.append(len(killed))
        await here.start("context")


async def stopped(killing: asyncio.Future[None], here: Machine) -> None:
    """End the killing with the room up."""
    killing.cancel()
    await asyncio.wait({killing})
    if here.running["context"].process.poll() is not None:
        await here.start("context")
    else:
        await here.ready(here.running["context"])


async def keep_breaking(proxy: FaultProxy, chance: random.Random) -> None:
    while True:
        mode = chance.choice(("rst", "fin", "pass", "pass", "latency"))
        proxy.fault = Fault(mode=mode, after=chance.randrange(200, 6000), seconds=0.05)  # type: ignore[arg-type]
        await asyncio.sleep(chance.random() * 0.3)
        proxy.cuts += 1
        proxy.cut_all(chance.choice(("rst", "fin")))
