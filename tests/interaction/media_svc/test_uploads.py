from __future__ import annotations

import asyncio
import random

import pytest

from assistant.error.v1 import error_pb2 as reasons
from assistant.media.v1 import media_pb2 as pb
from assistant.message.v1 import message_pb2
from chassis import ids
from chassis.testing import eventually
from tests.interaction.media_svc.mesh import CHUNK, Mesh, Person, Starter, failure, frames, header_of
from tests.unit.media_svc.samples import TAKEN, png

LARGE = png(filler=random.Random(7).randbytes(1_500_000))
OTHER_DIGEST = "0" * 64


def body(frames: list[pb.DownloadMediaResponse]) -> bytes:
    return b"".join(frame.chunk for frame in frames)


@pytest.mark.requirement("MED-1")
async def test_a_file_sent_in_one_stream_comes_back_byte_for_byte(ada: Person) -> None:
    media = await ada.upload(LARGE, file_name="sea.png", mime_type="application/pdf")
    assert (media.kind, media.mime_type, media.file_name) == (pb.MEDIA_KIND_IMAGE, "image/png", "sea.png")
    assert media.size == len(LARGE)
    assert media.sha256 == media.upload_sha256 == header_of(LARGE).sha256
    assert media.expire_time.seconds - media.create_time.seconds == 24 * 3600
    frames = await ada.download(media.id)
    assert body(frames) == LARGE
    assert frames[0].header.size == len(LARGE)
    assert frames[-1].HasField("finished")


@pytest.mark.requirement("MED-1")
async def test_a_file_sent_in_chunks_is_finished_with_the_last(ada: Person) -> None:
    upload = await ada.create(LARGE)
    assert (upload.state, upload.received_size) == (pb.UPLOAD_STATE_RECEIVING, 0)
    upload = await ada.send(upload, LARGE)
    assert (upload.state, upload.received_size) == (pb.UPLOAD_STATE_FINISHED, len(LARGE))
    assert body(await ada.download(upload.media.id)) == LARGE
    assert (await ada.progress(upload)).media == upload.media


@pytest.mark.requirement("MED-1")
async def test_an_upload_goes_on_where_it_was_after_the_room_was_started_again(mesh: Mesh) -> None:
    async with mesh.running() as room:
        ada = await room.person()
        upload = await ada.create(LARGE, request_id=(request := ids.uuid()))
        for offset in (0, CHUNK):
            await ada.write(upload, offset, LARGE[offset : offset + CHUNK])
    async with mesh.running() as room:
        ada = await room.person(ada.account)
        found = await ada.create(LARGE, request_id=request)
        assert (found.id, found.received_size) == (upload.id, 2 * CHUNK)
        assert await ada.progress(found) == found
        finished = await ada.send(found, LARGE)
        assert finished.state == pb.UPLOAD_STATE_FINISHED
    async with mesh.running() as room:
        ada = await room.person(ada.account)
        assert body(await ada.download(finished.media.id)) == LARGE


@pytest.mark.requirement("MED-1")
async def test_a_stream_that_was_cut_is_finished_by_chunks(ada: Person) -> None:
    header = header_of(LARGE)
    cut = asyncio.Event()

    async def half() -> object:
        for frame in list(frames(LARGE, request_id=header.request_id))[:-1]:
            yield frame
        await cut.wait()

    call = ada.media.UploadMedia(half())
    async with asyncio.timeout(20):
        while not (upload := await ada.create(LARGE, request_id=header.request_id)).received_size:
            continue
    call.cancel()
    assert 0 < upload.received_size < len(LARGE)
    assert (await ada.send(upload, LARGE)).state == pb.UPLOAD_STATE_FINISHED


async def test_a_chunk_may_come_twice_and_may_overlap_but_may_leave_no_gap(ada: Person) -> None:
    upload = await ada.create(LARGE)
    await ada.write(upload, 0, LARGE[:1000])
    assert (await ada.write(upload, 0, LARGE[:1000])).received_size == 1000
    refused = await failure(ada.write(upload, 1001, LARGE[1001:2000]))
    assert (refused.reason, refused.metadata["offset"]) == ("OFFSET_MISMATCH", "1000")
    assert (await ada.write(upload, 500, LARGE[500:2000])).received_size == 2000
    together = await asyncio.gather(*(ada.write(upload, 2000, LARGE[2000:3000]) for _ in range(8)))
    assert {each.received_size for each in together} == {3000}
    finished = await ada.send(await ada.progress(upload), LARGE)
    assert finished.state == pb.UPLOAD_STATE_FINISHED
    assert (await ada.write(upload, 0, LARGE[:1000])).media == finished.media


@pytest.mark.requirement("MED-1")
async def test_bytes_with_another_digest_are_refused_and_dropped(ada: Person, mesh: Mesh) -> None:
    upload = await ada.create(LARGE, sha256=OTHER_DIGEST)
    upload = await ada.send(upload, LARGE)
    assert upload.state == pb.UPLOAD_STATE_FAILED
    assert upload.failure == reasons.ERROR_REASON_MEDIA_DIGEST_MISMATCH
    assert upload.failure_message == "What arrived is not what was announced."
    refused = await failure(ada.upload(LARGE, sha256="1" * 64))
    assert refused.reason == "MEDIA_DIGEST_MISMATCH"
    assert list((await ada.list()).media) == []


@pytest.mark.requirement("MED-1")
@pytest.mark.parametrize("size", [len(LARGE) - 1, len(LARGE) + 1])
async def test_bytes_of_another_size_are_refused(ada: Person, size: int) -> None:
    assert (await failure(ada.upload(LARGE, size=size))).reason == "MEDIA_DIGEST_MISMATCH"


async def test_a_chunk_beyond_the_announced_size_fails_the_upload(ada: Person) -> None:
    upload = await ada.create(b"ab")
    upload = await ada.write(upload, 0, b"abc")
    assert upload.failure == reasons.ERROR_REASON_MEDIA_DIGEST_MISMATCH


@pytest.mark.requirement("MED-1")
async def test_a_type_that_is_not_taken_is_refused_whatever_its_name(ada: Person) -> None:
    program = b"\x7fELF\2\1\1" + bytes(100)
    named = {"file_name": "holiday.jpg", "mime_type": "image/jpeg"}
    assert (await failure(ada.upload(program, **named))).reason == "MEDIA_TYPE_UNSUPPORTED"
    upload = await ada.send(await ada.create(program, **named), program)
    assert upload.failure == reasons.ERROR_REASON_MEDIA_TYPE_UNSUPPORTED


@pytest.mark.requirement("MED-1")
async def test_each_kind_has_its_own_limit(mesh: Mesh) -> None:
    async with mesh.running(image_limit=100, audio_limit=3000, document_limit=2000) as room:
        ada = await room.person()
        assert (await ada.upload(b"t" * 2000)).kind == pb.MEDIA_KIND_DOCUMENT
        refused = await failure(ada.upload(png(filler=bytes(1000))))
        assert refused.reason == "MEDIA_TOO_LARGE"
        assert (await ada.upload(TAKEN["flac"][0] + bytes(2800))).kind == pb.MEDIA_KIND_AUDIO
        refused = await failure(ada.create(b"t" * 3001))
        assert (refused.reason, refused.metadata["limit"]) == ("MEDIA_TOO_LARGE", "3000")


def test_the_limits_are_those_of_the_contract(mesh: Mesh) -> None:
    settings = mesh.settings()
    assert (settings.image_limit, settings.audio_limit, settings.document_limit) == (
        25 * 1024**2,
        100 * 1024**2,
        100 * 1024**2,
    )


@pytest.mark.requirement("MED-1")
async def test_the_same_bytes_are_stored_once_for_each_person(room: Starter, mesh: Mesh) -> None:
    ada, bob = await room.person(), await room.person()
    first = await ada.upload(LARGE)
    assert (await ada.upload(LARGE, file_name="other")).id == first.id
    again = await ada.create(LARGE)
    assert (again.state, again.media.id) == (pb.UPLOAD_STATE_FINISHED, first.id)
    assert (await ada.list()).used_bytes == len(LARGE)
    his = await bob.create(LARGE)
    assert his.state == pb.UPLOAD_STATE_RECEIVING
    assert (await bob.send(his, LARGE)).media.id != first.id
    await eventually(lambda: len(mesh.kept()) == 2)


async def test_two_uploads_of_the_same_bytes_at_once_become_one_file(ada: Person, mesh: Mesh) -> None:
    found = await asyncio.gather(*(ada.upload(LARGE) for _ in range(4)))
    assert len({media.id for media in found}) == 1
    assert len((await ada.list()).media) == 1


async def test_the_stricter_mark_holds(ada: Person) -> None:
    assert (await ada.upload(b"text")).placement == message_pb2.PLACEMENT_ANY
    local = await ada.upload(b"text", placement=message_pb2.PLACEMENT_LOCAL_ONLY)
    assert local.placement == message_pb2.PLACEMENT_LOCAL_ONLY
    assert (await ada.upload(b"text")).placement == message_pb2.PLACEMENT_LOCAL_ONLY


async def test_a_request_id_names_one_upload(room: Starter) -> None:
    ada, bob = await room.person(), await room.person()
    request = ids.uuid()
    upload = await ada.create(b"one", request_id=request)
    assert (await ada.create(b"one", request_id=request)).id == upload.id
    assert (await failure(ada.create(b"two", request_id=request))).reason == "IDEMPOTENCY_KEY_REUSED"
    assert (await failure(ada.upload(b"two", request_id=request))).reason == "IDEMPOTENCY_KEY_REUSED"
    assert (await bob.create(b"two", request_id=request)).id != upload.id


@pytest.mark.requirement("MED-1")
async def test_a_person_has_a_quota_that_uploads_on_their_way_count_for(mesh: Mesh) -> None:
    async with mesh.running(quota=1000) as room:
        ada, bob = await room.person(), await room.person()
        kept = await ada.upload(b"a" * 500)
        await ada.create(b"b" * 400)
        refused = await failure(ada.create(b"c" * 101))
        assert refused.reason == "QUOTA_EXCEEDED"
        await bob.create(b"c" * 101)
        await ada.media.DeleteMedia(pb.DeleteMediaRequest(media_id=kept.id))
        await ada.create(b"c" * 101)
        assert (await ada.list()).quota_bytes == 1000


async def test_a_stream_must_begin_with_its_header_and_have_one_only(ada: Person) -> None:
    begin, *rest = frames(b"text")
    for wrong in (rest, [begin, begin], []):
        assert (await failure(ada.media.UploadMedia(iter(wrong)))).reason == "FRAME_UNEXPECTED"


async def test_a_chunk_larger_than_the_contract_allows_is_refused(ada: Person) -> None:
    upload = await ada.create(LARGE)
    refused = await failure(ada.write(upload, 0, LARGE[: CHUNK + 1]))
    assert refused.reason == "INVALID_FIELD"
