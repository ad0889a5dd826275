from __future__ import annotations

import asyncio
import random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.knowledge.v1 import knowledge_pb2
from assistant.media.v1 import media_pb2 as pb
from chassis import ids
from chassis.testing import eventually
from tests.interaction.media_svc.mesh import Mesh, Person, Starter, failure, outcome
from tests.unit.media_svc.samples import TAKEN, png

LARGE = png(filler=random.Random(8).randbytes(700_000))


@pytest.mark.requirement("MED-2")
async def test_any_range_can_be_downloaded(ada: Person) -> None:
    media = await ada.upload(LARGE)
    for offset, length in ((0, 1), (1, 300_000), (262_144, 262_144), (len(LARGE) - 1, 0), (5, 2**40)):
        header, *chunks, last = await ada.download(media.id, offset=offset, length=length)
        wanted = LARGE[offset : offset + length] if length else LARGE[offset:]
        assert b"".join(frame.chunk for frame in chunks) == wanted
        assert (header.header.offset, header.header.length) == (offset, len(wanted))
        assert (header.header.size, header.header.sha256) == (len(LARGE), media.sha256)
        assert last.HasField("finished")


async def test_a_range_behind_the_end_is_refused(ada: Person) -> None:
    media = await ada.upload(b"text")
    assert (await failure(ada.download(media.id, offset=4))).reason == "RANGE_INVALID"


async def test_a_variant_that_cannot_be_had_is_refused(ada: Person) -> None:
    image, sound = await ada.upload(LARGE), await ada.upload(TAKEN["flac"][0])
    thumbnail = await failure(ada.download(image.id, variant=pb.MEDIA_VARIANT_THUMBNAIL))
    assert thumbnail.reason == "ANALYZER_UNAVAILABLE"
    assert (
        await failure(ada.download(sound.id, variant=pb.MEDIA_VARIANT_MODEL))
    ).reason == "MEDIA_UNREADABLE"
    assert list(image.variants) == [pb.MEDIA_VARIANT_STORED]


@pytest.mark.requirement("MED-2")
async def test_what_is_anothers_is_not_there(room: Starter) -> None:
    ada, bob = await room.person(), await room.person()
    media = await ada.upload(LARGE)
    upload = await ada.create(b"half")
    for theirs, unknown in ((media.id, upload.id), (ids.uuid(), ids.uuid())):
        answers = [
            await failure(bob.media.GetMedia(pb.GetMediaRequest(media_id=theirs))),
            await failure(bob.download(theirs)),
            await failure(bob.media.DeleteMedia(pb.DeleteMediaRequest(media_id=theirs))),
        ]
        assert {(answer.reason, answer.message) for answer in answers} == {
            ("MEDIA_NOT_FOUND", "No such file.")
        }
        answers = [
            await failure(bob.media.GetUpload(pb.GetUploadRequest(upload_id=unknown))),
            await failure(bob.write(pb.Upload(id=unknown), 0, b"half")),
        ]
        assert {answer.reason for answer in answers} == {"UPLOAD_NOT_FOUND"}
    await bob.media.DeleteMedia(pb.DeleteMediaRequest(media_id=media.id, allow_missing=True))
    assert (await ada.media.GetMedia(pb.GetMediaRequest(media_id=media.id))).media == media
    assert list((await bob.list()).media) == []


async def test_a_list_is_paged_newest_first_and_can_be_narrowed(room: Starter) -> None:
    ada, bob = await room.person(), await room.person()
    texts = [(await ada.upload(f"text {number}".encode())).id for number in range(5)]
    image = (await ada.upload(LARGE)).id
    whole = await ada.list()
    assert [media.id for media in whole.media] == [image, *reversed(texts)]
    assert not whole.next_page_token
    assert whole.used_bytes == 5 * len("text 0") + len(LARGE)
    kind = pb.MEDIA_KIND_DOCUMENT
    seen, token = [], ""
    while True:
        page = await ada.list(page_size=2, page_token=token, kind=kind)
        seen += [media.id for media in page.media]
        if not (token := page.next_page_token):
            break
        last = token
    assert seen == list(reversed(texts))
    for answer in (
        ada.list(page_token="nonsense"),
        ada.list(page_token=last),
        bob.list(page_token=last, kind=kind),
        ada.list(page_token=f"{last}=x", kind=kind),
    ):
        assert (await failure(answer)).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.requirement("MED-1")
async def test_a_deleted_file_is_gone_from_the_list_and_from_the_store(ada: Person, mesh: Mesh) -> None:
    kept, media = await ada.upload(b"stays"), await ada.upload(LARGE)
    await ada.media.DeleteMedia(pb.DeleteMediaRequest(media_id=media.id))
    again = pb.DeleteMediaRequest(media_id=media.id)
    assert (await failure(ada.media.DeleteMedia(again))).reason == "MEDIA_NOT_FOUND"
    await ada.media.DeleteMedia(pb.DeleteMediaRequest(media_id=media.id, allow_missing=True))
    assert [each.id for each in (await ada.list()).media] == [kept.id]
    await eventually(lambda: [path.stat().st_size for path in mesh.kept()] == [len(b"stays")])
    fresh = await ada.upload(LARGE)
    assert fresh.id != media.id
    assert len(await ada.download(fresh.id)) > 2


async def test_what_is_not_served_yet_says_so_after_the_door(ada: Person) -> None:
    refused = [
        await failure(ada.media.AnalyzeImage(pb.AnalyzeImageRequest())),
        await failure(ada.knowledge.SearchDocuments(knowledge_pb2.SearchDocumentsRequest())),
    ]
    assert {each.reason for each in refused} == {"NOT_SERVED"}


async def test_a_room_is_no_person(room: Starter) -> None:
    orchestrator = await room.room("orchestrator")
    refused = await failure(orchestrator.GetMedia(pb.GetMediaRequest(media_id="x")))
    assert refused.reason == "GRANT_INVALID"
    assert (await failure(orchestrator.ListMedia(pb.ListMediaRequest()))).reason == "TOKEN_INVALID"


async def test_an_ended_sign_in_is_refused_and_others_go_on(room: Starter, mesh: Mesh) -> None:
    ada, bob = await room.person(), await room.person()
    await ada.list()
    ended = {"sign_in_id": ada.sign_in, "account_id": ada.account, "forget_time": Timestamp(seconds=2**32)}
    mesh.context.say(change={"revoked_sign_ins": [ended]})
    async with asyncio.timeout(20):
        while (reason := await outcome(ada.list())) is None:
            continue
    assert reason == "TOKEN_REVOKED"
    await bob.list()


async def test_a_feed_that_ends_is_opened_anew(room: Starter, mesh: Mesh) -> None:
    ada = await room.person()
    mesh.context.say(closed={"reason": 1})
    await eventually(lambda: mesh.context.opened == 2)
    await room.heard()
    await ada.list()


async def test_without_the_feed_the_room_serves_and_believes_no_token(mesh_without_feed: Mesh) -> None:
    mesh = mesh_without_feed
    async with mesh.running(heard=False) as room:
        ada = await room.person()
        assert (await failure(ada.list())).reason == "REVOCATION_FEED_LOST"
        await room.heard(False)
        await room.heard(True, service="")
        async with mesh.feeding():
            await room.heard()
            await ada.list()
