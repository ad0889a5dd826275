"""What context_svc does with a person's files: claim, release, export, erase."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assistant.media.v1 import media_pb2 as pb
from chassis.testing import eventually
from tests import holding
from tests.interaction.media_svc.mesh import Person, Starter, failure, outcome
from tests.unit.media_svc.samples import png

PNG = png(filler=b"x" * 100)
TEXT = b"canary-in-the-bytes-77 " * 40


async def erase(room: Starter, context: Any, account: str) -> pb.EraseOwnerResponse:
    answer: pb.EraseOwnerResponse = await context.EraseOwner(
        pb.EraseOwnerRequest(job_id="job-1"), **room.grant(account)
    )
    return answer


async def claim(
    room: Starter, context: Any, account: str, claim_id: str, *media: pb.Media
) -> pb.ClaimMediaResponse:
    request = pb.ClaimMediaRequest(claim_id=claim_id, media_ids=[each.id for each in media])
    answer: pb.ClaimMediaResponse = await context.ClaimMedia(request, **room.grant(account))
    return answer


async def export(room: Starter, context: Any, account: str, **request: Any) -> list[pb.ExportOwnerResponse]:
    call = context.ExportOwner(pb.ExportOwnerRequest(job_id="job-1", **request), **room.grant(account))
    return [frame async for frame in call]


@pytest.mark.requirement("MED-1")
async def test_a_claimed_file_stays_and_goes_with_its_last_claim(room: Starter, ada: Person) -> None:
    context = await room.room("context")
    media = await ada.upload(PNG)
    assert media.HasField("expire_time")
    for _ in range(2):
        answer = await claim(room, context, ada.account, "message-1", media)
        assert [each.id for each in answer.media] == [media.id]
    await claim(room, context, ada.account, "message-2", media)
    assert not (await ada.list()).media[0].HasField("expire_time")
    await context.ReleaseMedia(
        pb.ReleaseMediaRequest(claim_ids=["message-1", "unknown"]), **room.grant(ada.account)
    )
    assert len((await ada.list()).media) == 1
    await context.ReleaseMedia(pb.ReleaseMediaRequest(claim_ids=["message-2"]), **room.grant(ada.account))
    assert not (await ada.list()).media
    await eventually(lambda: room.mesh.kept() == [])


@pytest.mark.requirement("MED-1")
async def test_a_claim_takes_all_files_or_none_and_its_id_names_one_set(room: Starter, ada: Person) -> None:
    context, bob = await room.room("context"), await room.person()
    mine, his = await ada.upload(PNG), await bob.upload(PNG)
    refused = await failure(claim(room, context, ada.account, "m", mine, his))
    assert refused.reason == "MEDIA_NOT_FOUND"
    assert refused.metadata["media_id"] == his.id
    assert (await ada.list()).media[0].HasField("expire_time")
    await claim(room, context, ada.account, "m", mine)
    other = await ada.upload(TEXT)
    assert await outcome(claim(room, context, ada.account, "m", other)) == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.requirement("SAFE-1")
async def test_only_context_svc_acts_for_people_and_only_with_leave_for_a_job(
    room: Starter, ada: Person
) -> None:
    context, other = await room.room("context"), await room.room("orchestrator")
    assert await outcome(erase(room, other, ada.account)) == "CALLER_NOT_ALLOWED"
    assert await outcome(context.EraseOwner(pb.EraseOwnerRequest(job_id="j"))) == "GRANT_INVALID"
    request = pb.EraseOwnerRequest(job_id="j")
    for wrong in ({"job": None, "turn": "t1"}, {"aud": "llm"}):
        leave = room.grant(ada.account, **wrong)
        assert await outcome(context.EraseOwner(request, **leave)) == "GRANT_INVALID"
    assert await outcome(ada.media.EraseOwner(request)) in ("CALLER_NOT_ALLOWED", "TOKEN_INVALID")


@pytest.mark.requirement("ID-7")
async def test_an_export_holds_every_file_with_its_bytes_and_none_of_another(
    room: Starter, ada: Person
) -> None:
    context, bob = await room.room("context"), await room.person()
    sent = {(await ada.upload(data)).id: data for data in (PNG, TEXT * 20_000)}
    await bob.upload(PNG)
    frames = await export(room, context, ada.account)
    got: dict[str, bytes] = {}
    for frame in frames[:-1]:
        if frame.HasField("media"):
            current = frame.media.id
            got[current] = b""
        else:
            got[current] += frame.chunk
    assert got == sent
    assert frames[-1].finished.media_count == 2
    bare = await export(room, context, ada.account, without_blobs=True)
    assert [frame.WhichOneof("frame") for frame in bare] == ["media", "media", "finished"]


@pytest.mark.requirement("ID-8")
async def test_an_erased_account_leaves_nothing_and_gets_nothing_new(room: Starter, ada: Person) -> None:
    context, bob = await room.room("context"), await room.person()
    await ada.upload(TEXT, file_name="canary-in-the-name-78.txt")
    await ada.write(await ada.create(PNG), 0, PNG[:7])
    kept = await bob.upload(PNG)
    assert (await erase(room, context, ada.account)).erased
    assert (await erase(room, context, ada.account)).erased
    assert holding.files(room.mesh.folder, "canary-in-the-") == []
    assert len(room.mesh.kept()) == 1
    assert await outcome(ada.upload(PNG)) == "TOKEN_REVOKED"
    assert await outcome(claim(room, context, ada.account, "m", kept)) == "TOKEN_REVOKED"
    assert [each.id for each in (await bob.list()).media] == [kept.id]


@pytest.mark.requirement("ID-8")
async def test_what_cleans_up_goes_on_after_the_end_of_the_account_and_nothing_else(
    room: Starter, ada: Person
) -> None:
    context = await room.room("context")
    await ada.upload(PNG)
    await room.ended(ada.account)
    assert await outcome(claim(room, context, ada.account, "m")) == "GRANT_INVALID"
    assert await outcome(export(room, context, ada.account)) == "GRANT_INVALID"
    release = pb.ReleaseMediaRequest(claim_ids=["m"])
    assert await outcome(context.ReleaseMedia(release, **room.grant(ada.account))) is None
    assert (await erase(room, context, ada.account)).erased
    assert room.mesh.kept() == []


@pytest.mark.requirement("ID-8")
async def test_bytes_that_arrive_while_the_account_is_erased_are_removed(room: Starter, ada: Person) -> None:
    context = await room.room("context")
    uploads = [await ada.create(png(filler=bytes([n]) * 9)) for n in range(4)]
    writes = [
        asyncio.create_task(outcome(ada.send(upload, png(filler=bytes([n]) * 9))))
        for n, upload in enumerate(uploads)
    ]
    async with asyncio.timeout(20):
        while not (await erase(room, context, ada.account)).erased:  # noqa: ASYNC110 - context_svc asks again too
            await asyncio.sleep(0)
    await asyncio.gather(*writes)
    await eventually(lambda: room.mesh.kept() == [])
