"""MediaService and KnowledgeService: parse, call, build. What is not served yet the boundary refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from assistant.knowledge.v1 import knowledge_pb2, knowledge_pb2_grpc
from assistant.media.v1 import media_pb2 as pb
from assistant.media.v1 import media_pb2_grpc as rpc
from chassis import call
from media_svc import wire
from media_svc.arrivals import Arrivals
from media_svc.backup import Backup
from media_svc.intake import Intake
from media_svc.shelf import Shelf
from media_svc.stewardship import Stewardship

MEDIA = pb.DESCRIPTOR.services_by_name["MediaService"].full_name
KNOWLEDGE = knowledge_pb2.DESCRIPTOR.services_by_name["KnowledgeService"].full_name


class MediaServicer(rpc.MediaServiceServicer):
    """Files of the person who calls."""

    def __init__(
        self, intake: Intake, shelf: Shelf, stewardship: Stewardship, arrivals: Arrivals, backup: Backup
    ) -> None:
        self._intake = intake
        self._shelf = shelf
        self._stewardship = stewardship
        self._arrivals = arrivals
        self._backup = backup

    async def UploadMedia(
        self, request_iterator: AsyncIterator[pb.UploadMediaRequest], context: object
    ) -> pb.UploadMediaResponse:
        """A file in one stream."""
        announced = await wire.first_header(request_iterator)
        media = await self._intake.receive(_account(), announced, wire.chunks(request_iterator))
        return pb.UploadMediaResponse(media=wire.media(media))

    async def CreateUpload(self, request: pb.CreateUploadRequest, context: object) -> pb.CreateUploadResponse:
        """The beginning of a file in chunks."""
        upload = await self._intake.open(_account(), wire.announced(request.header))
        return pb.CreateUploadResponse(upload=wire.upload(upload))

    async def WriteUpload(self, request: pb.WriteUploadRequest, context: object) -> pb.WriteUploadResponse:
        """A chunk."""
        upload = await self._intake.write(_account(), request.upload_id, request.offset, request.chunk)
        return pb.WriteUploadResponse(upload=wire.upload(upload))

    async def GetUpload(self, request: pb.GetUploadRequest, context: object) -> pb.GetUploadResponse:
        """How far it is."""
        upload = await self._intake.find(_account(), request.upload_id)
        return pb.GetUploadResponse(upload=wire.upload(upload))

    async def GetMedia(self, request: pb.GetMediaRequest, context: object) -> pb.GetMediaResponse:
        """What is known about a file."""
        return pb.GetMediaResponse(media=wire.media(await self._shelf.find(_account(), request.media_id)))

    async def ListMedia(self, request: pb.ListMediaRequest, context: object) -> pb.ListMediaResponse:
        """The files, newest first."""
        page = await self._shelf.page(
            _account(), kind=wire.kind(request.kind), size=request.page_size, token=request.page_token
        )
        return wire.page(page, self._shelf.quota)

    async def DownloadMedia(
        self, request: pb.DownloadMediaRequest, context: object
    ) -> AsyncIterator[pb.DownloadMediaResponse]:
        """The bytes of a file."""
        reading = await self._shelf.read(
            _account(),
            request.media_id,
            wire.variant(request.variant),
            offset=request.offset,
            length=request.length,
        )
        yield wire.download_header(reading)
        async for piece in reading.pieces:
            yield wire.download_chunk(piece)
        yield wire.download_finished()

    async def DeleteMedia(self, request: pb.DeleteMediaRequest, context: object) -> pb.DeleteMediaResponse:
        """A file less."""
        await self._shelf.delete(_account(), request.media_id, allow_missing=request.allow_missing)
        return pb.DeleteMediaResponse()

    async def ClaimMedia(self, request: pb.ClaimMediaRequest, context: object) -> pb.ClaimMediaResponse:
        """Files that something names now."""
        return wire.claimed(await self._stewardship.claim(wire.claim(request, _account())))

    async def ReleaseMedia(self, request: pb.ReleaseMediaRequest, context: object) -> pb.ReleaseMediaResponse:
        """Files that something named."""
        await self._stewardship.release(_account(), request.claim_ids)
        return pb.ReleaseMediaResponse()

    async def EraseOwner(self, request: pb.EraseOwnerRequest, context: object) -> pb.EraseOwnerResponse:
        """An account less."""
        return wire.erased(await self._stewardship.erase(_account(), request.job_id))

    async def ImportMedia(
        self, request_iterator: AsyncIterator[pb.ImportMediaRequest], context: object
    ) -> pb.ImportMediaResponse:
        """A file of an archive."""
        arriving = await wire.arriving(request_iterator)
        return wire.arrived(await self._arrivals.receive(_account(), arriving, wire.chunks(request_iterator)))

    async def ExportOwner(
        self, request: pb.ExportOwnerRequest, context: object
    ) -> AsyncIterator[pb.ExportOwnerResponse]:
        """Everything of an account."""
        with_bytes = not request.without_blobs
        async for part in self._stewardship.export(_account(), with_bytes=with_bytes):
            yield wire.exported(part)

    async def WriteBackup(
        self, request: pb.WriteBackupRequest, context: object
    ) -> AsyncIterator[pb.WriteBackupResponse]:
        """The whole state, for a backup."""
        async for part in self._backup.write(request.backup_id):
            yield wire.backup_frame(part)

    async def ReadBackup(
        self, request_iterator: AsyncIterator[pb.ReadBackupRequest], context: object
    ) -> pb.ReadBackupResponse:
        """Another state in the place of this one."""
        return wire.restored(await self._backup.read(wire.backup_parts(request_iterator)))

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        rpc.add_MediaServiceServicer_to_server(self, server)


class KnowledgeServicer(knowledge_pb2_grpc.KnowledgeServiceServicer):
    """Documents and their search: declared, not served yet."""

    def register(self, server: grpc.aio.Server) -> None:
        """Let the boundary refuse it by name."""
        knowledge_pb2_grpc.add_KnowledgeServiceServicer_to_server(self, server)


def _account() -> str:
    return call.current().account()
