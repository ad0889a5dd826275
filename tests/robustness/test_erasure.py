"""The end of an account with much in it, over the rooms as they run: timed, and looked for afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.operator.v1 import operator_pb2, operator_pb2_grpc
from chassis import ids
from tests import holding
from tests.interaction.accounts.conftest import new_database
from tests.robustness.client import PASSWORD, Device, Told, device
from tests.robustness.mesh import Machine, machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.requirement("ID-8")]

MESSAGES = {False: 40, True: 1_000}  # half of them answers
FILES = {False: 4, True: 50}
FILE = 64 * 1024  # bytes
SESSIONS = 4
PROMISED = 60.0  # seconds; the tests count what takes longer and fail only where nothing ends
CANARY = "canary-5b1e"
ROOMS = ("context", "orchestrator", "llm", "media")


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_an_account_with_much_in_it_is_erased(
    request: pytest.FixtureRequest, engine: str, long_loops: bool
) -> None:
    url = await new_database(request.getfixturevalue("postgres_url")) if engine == "postgres" else ""
    messages, files = MESSAGES[long_loops], FILES[long_loops]
    stores = {"MEDIA_DATABASE": url} if url else {}
    async with machine(*ROOMS, database=url, **stores) as here:
        async with device(here.context(), here.operator()) as phone:
            await fill(phone, here, messages, files)
            planted = await found(here, url)
            assert planted
            deletion = identity_pb2.DeleteAccountRequest(request_id=ids.uuid(), password=PASSWORD)
            began = time.monotonic()
            await phone.identity.DeleteAccount(deletion, metadata=phone.metadata, timeout=30)
            answered = time.monotonic() - began
            await erased(here)
            taken = time.monotonic() - began
        left = await found(here, url)
    counted = f"{messages} messages, {files} files: answered {answered:.2f} s, erased {taken:.2f} s"
    tell(f"account erased ({engine})", counted, len(left) + (taken > PROMISED))
    assert not left


async def fill(phone: Device, here: Machine, messages: int, files: int) -> None:
    """Sessions with messages and their answers, and files, all with the canary."""
    sessions = [await phone.new_session() for _ in range(SESSIONS)]

    async def talk(session: str, turns: int) -> None:
        for number in range(turns):
            await phone.say(session, f"{CANARY} {number} " + "and so on " * 20, Told())
            await phone.settled(session)

    await asyncio.gather(*(talk(each, messages // 2 // SESSIONS) for each in sessions))
    address = here.running["media"].address
    async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = media_pb2_grpc.MediaServiceStub(channel)
        for number in range(files):
            content = f"{CANARY} {number} ".encode().ljust(FILE, b".")
            await phone.insist(
                lambda content=content: stub.UploadMedia(
                    _upload(content), metadata=phone.metadata, timeout=20
                )  # type: ignore[misc]
            )


def _upload(content: bytes) -> Iterator[media_pb2.UploadMediaRequest]:
    header = media_pb2.UploadHeader(
        request_id=ids.uuid(),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        file_name=f"{CANARY}.txt",
    )
    yield media_pb2.UploadMediaRequest(header=header)
    yield media_pb2.UploadMediaRequest(chunk=content)


async def erased(here: Machine) -> None:
    """Return when the operator sees no account any more: context_svc and media_svc have said so."""
    async with grpc.aio.insecure_channel(here.operator()) as channel, asyncio.timeout(600):
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        while (await stub.ListUsers(operator_pb2.ListUsersRequest())).users:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.02)


async def found(here: Machine, url: str) -> list[str]:
    """Where the canary lies: files of the mesh by name and content, rows of a database server."""
    places = await asyncio.to_thread(holding.files, here.places.data, CANARY)
    return places + (await holding.rows(url, CANARY) if url else [])
