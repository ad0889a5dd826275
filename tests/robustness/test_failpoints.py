"""A process dies at each named place in turn; nothing acknowledged is lost, doubled or stuck."""

from __future__ import annotations

import hashlib

import grpc
import pytest

from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.tasks import Tasks
from tests.robustness.checker import faults
from tests.robustness.client import Device, Reader, Told, device
from tests.robustness.mesh import Machine, Process, machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROUNDS = {False: 1, True: 5}
TALK = {
    "after_idem_row": "context",
    "before_commit": "context",
    "after_commit_before_ack": "context",
    "after_ack": "context",
    "after_first_token": "context",
    "between_event_batches": "context",
    "after_turn_finished_commit": "context",
    "before_provider_call": "llm",
    "before_tool_side_effect": "orchestrator",
    "after_tool_side_effect_before_record": "orchestrator",
}
SLICE = ("after_idem_row", "after_commit_before_ack", "after_turn_finished_commit", "before_tool_side_effect")
START_UP = {"before_commit": 30, "after_commit_before_ack": 30}  # a start itself commits some twenty times
WORDS = "What is 17*23?"


async def begin_under(here: Machine, room: str, point: str, nth: int) -> None:
    """Start a room anew, to die at a place."""
    here.running[room].kill()
    await here.start(room, FP=f"{point}:{nth}:kill", FP_ENABLED="1")


async def die_and_come_back(here: Machine, room: str) -> float:
    """The room dies at its failpoint and is started as a supervisor would; seconds until it serves."""
    assert await here.running[room].ended(30) == -9
    return (await here.start(room)).ready_seconds


@pytest.mark.requirement("CHAT-2", "CHAT-4")
async def test_a_kill_at_each_place_of_a_turn_loses_doubles_and_blocks_nothing(long_loops: bool) -> None:
    ready, wrong, kills = [], [], 0
    async with (
        machine("context", "orchestrator", "llm") as here,
        device(here.context(), here.operator()) as phone,
    ):
        for nth in range(1, ROUNDS[long_loops] + 1):
            for point, room in TALK.items():
                if not long_loops and point not in SLICE:
                    continue
                await begin_under(here, room, point, nth + START_UP.get(point, 0))
                session, told = await phone.new_session(), Told()
                async with Tasks() as tasks:
                    talk = tasks.spawn("talk", keep_talking(phone, session, told, here.running[room]))
                    ready.append(await die_and_come_back(here, room))
                    session = await talk
                kills += 1
                found = faults(await phone.history(session, told))
                wrong += [f"{point} the {nth}. time: {fault}" for fault in found]
    ready.sort()
    slow = f"ready again p50 {ready[len(ready) // 2]:.1f} s, longest {ready[-1]:.1f} s"
    tell(
        "kills at failpoints",
        f"{kills} kills at {len(TALK if long_loops else SLICE)} places, {slow}",
        len(wrong),
    )
    assert not wrong
    assert ready[len(ready) // 2] <= 3 or not long_loops


async def keep_talking(phone: Device, session: str, told: Told, doomed: Process) -> str:
    """Say things to a session, each until it is acknowledged, until a process has died; a reader follows."""
    reader = Reader(phone, session)
    async with Tasks() as tasks:
        tasks.spawn("read", reader.run())
        while doomed.process.poll() is None:
            await phone.say(session, WORDS, told)
        await phone.say(session, WORDS, told)
        log = await phone.settled(session)
        await reader.reach(int(log[-1]["sequence"]))
    told.readings.append(reader.reading())
    return session


@pytest.mark.requirement("CHAT-4")
async def test_a_refresh_whose_answer_was_lost_in_a_crash_is_asked_again() -> None:
    async with machine("context") as here, device(here.context(), here.operator()) as phone:
        await begin_under(here, "context", "refresh_after_rotate_before_reply", 1)
        before = phone.tokens.refresh_token
        async with Tasks() as tasks:
            refreshing = tasks.spawn("refresh", phone.refresh())
            await die_and_come_back(here, "context")
            await refreshing
        assert phone.tokens.refresh_token != before
        await phone.new_session()


@pytest.mark.requirement("CHAT-4")
async def test_a_deletion_cut_off_by_a_crash_is_whole_or_not_at_all() -> None:
    async with machine("context") as here, device(here.context(), here.operator()) as phone:
        session, told = await phone.new_session(), Told()
        await phone.say(session, "hello", told)
        await begin_under(here, "context", "mid_erase_step", 1)
        request = session_pb2.DeleteSessionRequest(session_id=session)
        async with Tasks() as tasks:
            deleting = tasks.spawn(
                "delete",
                phone.insist(
                    lambda: phone.sessions.DeleteSession(request, metadata=phone.metadata, timeout=5)
                ),
            )
            await die_and_come_back(here, "context")
            await deleting
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await phone.log(session)


@pytest.mark.requirement("OPS-5")
async def test_a_start_killed_in_each_migration_is_brought_forward_by_the_next() -> None:
    async with machine() as here:
        died = 0
        for nth in range(1, 50):
            started = here.spawn("context", FP=f"mid_migration_step:{nth % 3 + 1}:kill", FP_ENABLED="1")
            if not await died_or_ready(here, nth):
                break
            assert started.process.returncode == -9
            died += 1
        tell("kills in migrations", f"{died} kills, then ready", 0)
        assert died >= 2
        async with device(here.context(), here.operator()) as phone:
            await phone.new_session()


async def died_or_ready(here: Machine, nth: int) -> bool:
    """Whether the process died; False: it serves."""
    process = here.running["context"].process
    try:
        await here.ready(here.running["context"])
    except AssertionError:
        return process.poll() is not None
    return False


@pytest.mark.requirement("CHAT-4")
async def test_a_file_whose_last_step_was_cut_off_is_there_once() -> None:
    content = b"Some words in a file.\n" * 40
    async with machine("context", "media") as here, device(here.context(), here.operator()) as phone:
        await begin_under(here, "media", "mid_upload_finalise_rename", 1)
        header = media_pb2.UploadHeader(
            request_id=ids.uuid(),
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            file_name="words.txt",
            mime_type="text/plain",
        )
        address = f"unix:{here.places.run}/media.sock"
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = media_pb2_grpc.MediaServiceStub(channel)

            async def upload() -> media_pb2.Media:
                frames = [
                    media_pb2.UploadMediaRequest(header=header),
                    media_pb2.UploadMediaRequest(chunk=content),
                ]
                answer = await stub.UploadMedia(iter(frames), metadata=phone.metadata, timeout=10)
                return answer.media

            async with Tasks() as tasks:
                uploading = tasks.spawn("upload", phone.insist(upload))
                await die_and_come_back(here, "media")
                kept = await uploading
            listed = await stub.ListMedia(media_pb2.ListMediaRequest(), metadata=phone.metadata, timeout=5)
            assert [each.id for each in listed.media] == [kept.id]
