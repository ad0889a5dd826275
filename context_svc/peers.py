"""The rooms that context_svc dials. The only module here that does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import grpc

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.turn.v1 import turn_pb2, turn_pb2_grpc
from chassis.dial import streaming
from chassis.status import from_rpc_error
from chassis.tasks import Tasks
from context_svc import archive
from context_svc.applying import MediaClaim
from context_svc.archive import Manifest
from context_svc.errors import ArchiveInvalid, FileRefused, PeerUnavailable
from context_svc.exports import File
from context_svc.grants import Grants, Work
from context_svc.run_frames import Frame
from context_svc.runs import Material
from context_svc.unpacking import ArrivingFile
from context_svc.wire import turn as wire
from context_svc.wire.times import timestamp
from context_svc.wire.turn import Budget

CONNECT = 10.0  # seconds: long enough for a room that is being restarted
LIST_TIMEOUT = 5.0  # seconds
CHECK_TIMEOUT = 2.0  # seconds
ERASE_TIMEOUT = 25.0  # seconds
_REFUSALS = frozenset(
    {
        "MEDIA_TOO_LARGE",
        "MEDIA_TYPE_UNSUPPORTED",
        "MEDIA_DIGEST_MISMATCH",
        "QUOTA_EXCEEDED",
        "INVALID_FIELD",
        "TOKEN_REVOKED",
    }
)
_UNCLAIMABLE = frozenset({"MEDIA_NOT_FOUND", "IDEMPOTENCY_KEY_REUSED", "TOKEN_REVOKED"})


class MediaPeer:
    """media_svc, which keeps the files. Each call has leave for the person and the job it belongs to."""

    def __init__(self, channel: grpc.aio.Channel, grants: Grants) -> None:
        self._stub = media_pb2_grpc.MediaServiceStub(channel)
        self._grants = grants

    def _acting(self, account: str, job_id: str) -> tuple[tuple[str, str]]:
        """For whom a call acts, and in which job."""
        return self._grants.for_job(account, job_id)

    async def erase(self, account: str, job_id: str) -> bool:
        """Erase everything of an account; False while something is left. Raises PeerUnavailable."""
        with _reaching_media():
            answer = await self._stub.EraseOwner(
                media_pb2.EraseOwnerRequest(job_id=job_id),
                timeout=ERASE_TIMEOUT,
                metadata=self._acting(account, job_id),
                wait_for_ready=True,
            )
        return answer.erased

    @asynccontextmanager
    async def export(
        self, account: str, job_id: str, *, with_blobs: bool
    ) -> AsyncIterator[AsyncIterator[File | bytes]]:
        """See `context_svc.exports.MediaExporter`."""
        request = media_pb2.ExportOwnerRequest(job_id=job_id, without_blobs=not with_blobs)
        async with streaming(
            self._stub.ExportOwner(request, metadata=self._acting(account, job_id))
        ) as stream:
            yield _exported(stream)

    async def take_in(
        self, account: str, claim_id: str, file: ArrivingFile, chunks: Iterator[bytes]
    ) -> tuple[str, bool]:
        """See `context_svc.applying.MediaImporter`."""
        header = media_pb2.ImportMediaHeader(claim_id=claim_id, media=media_pb2.Media.FromString(file.data))

        async def frames() -> AsyncIterator[media_pb2.ImportMediaRequest]:
            yield media_pb2.ImportMediaRequest(header=header)
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield media_pb2.ImportMediaRequest(chunk=chunk)

        with _reaching_media(_REFUSALS):
            call = self._stub.ImportMedia(frames(), metadata=self._acting(account, claim_id))
            async with streaming(call):
                answer = await call
        return answer.media.id, answer.added

    async def claim(self, account: str, claim: MediaClaim) -> None:
        """See `context_svc.applying.MediaImporter`."""
        request = media_pb2.ClaimMediaRequest(
            claim_id=claim.id,
            session_id=claim.session_id,
            media_ids=claim.media_ids,
            excluded_from_backup=claim.private,
        )
        try:
            with _reaching_media(_UNCLAIMABLE):
                await self._stub.ClaimMedia(request, metadata=self._acting(account, claim.id))
        except FileRefused:  # it was deleted since, or the claim stands
            return

    async def release(self, account: str, claim_ids: Sequence[str]) -> None:
        """See `context_svc.applying.MediaImporter`."""
        request = media_pb2.ReleaseMediaRequest(claim_ids=claim_ids)
        with _reaching_media():
            await self._stub.ReleaseMedia(request, metadata=self._acting(account, claim_ids[0]))


async def _exported(stream: AsyncIterable[media_pb2.ExportOwnerResponse]) -> AsyncIterator[File | bytes]:
    with _reaching_media():
        async for frame in stream:
            match frame.WhichOneof("frame"):
                case "media":
                    yield File(frame.media.SerializeToString(), frame.media.sha256)
                case "chunk":
                    yield frame.chunk
                case "finished":
                    return
    raise PeerUnavailable("media_svc: the export ended too early")


@contextmanager
def _reaching_media(refusals: frozenset[str] = frozenset()) -> Iterator[None]:
    """Raises FileRefused for these reasons, PeerUnavailable for every other failure."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        why = from_rpc_error(error).reason or ""
        if why in refusals:
            raise FileRefused(why) from error
        raise PeerUnavailable(f"media_svc: {error.code().name} {why}".rstrip()) from error


class OrchestratorPeer:
    """orchestrator_svc, where turns run."""

    def __init__(self, channel: grpc.aio.Channel, budget: Budget, grants: Grants) -> None:
        self._stub = turn_pb2_grpc.TurnServiceStub(channel)
        self._budget = budget
        self._grants = grants

    @asynccontextmanager
    async def run(self, material: Material) -> AsyncIterator[OrchestratorTurn]:
        """Open a turn. Raises PeerUnavailable when the room cannot be reached."""
        async with streaming(self._stub.RunTurn(wait_for_ready=True)) as stream:
            await asyncio.sleep(0)  # the call is on its way, and checked there, while this signs and packs
            request = wire.start(material, self._budget, self._leave(material))
            try:
                async with asyncio.timeout(CONNECT):
                    await stream.write(request)
                    await stream.wait_for_connection()
            except TimeoutError as error:
                raise PeerUnavailable("orchestrator_svc does not answer") from error
            except grpc.aio.AioRpcError as error:
                raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error
            except asyncio.InvalidStateError as error:
                raise PeerUnavailable("orchestrator_svc refused the turn") from error
            turn = OrchestratorTurn(stream, wire.context_keys(request))
            async with Tasks() as tasks:
                tasks.spawn("renew grants", self._renew(turn, material))
                yield turn

    async def _renew(self, turn: OrchestratorTurn, material: Material) -> None:
        while True:
            await self._grants.due()
            await turn.send(turn_pb2.RunTurnRequest(grants=self._leave(material)))

    def _leave(self, material: Material) -> turn_pb2.Grants:
        claim = material.claim

        def grant(callee: str) -> str:
            return self._grants.issue(
                account=claim.account_id,
                work=Work.TURN,
                id=claim.turn_id,
                callee=callee,
                session=claim.session_id,
            )

        return turn_pb2.Grants(llm=grant("llm"), media=grant("media"))

    async def actions(self, account_id: str) -> list[agent_pb2.Action]:
        """Everything that turns of this account can use, by name. Raises PeerUnavailable."""
        try:
            answer = await self._stub.ListActions(
                turn_pb2.ListActionsRequest(account_id=account_id), timeout=LIST_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error
        return sorted(answer.actions, key=lambda action: action.name)

    async def knows(self, model: str) -> bool:
        """Whether the model can answer. Raises PeerUnavailable."""
        request = turn_pb2.CheckModelsRequest(models=[model])
        try:
            answer = await self._stub.CheckModels(request, timeout=CHECK_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error
        return not answer.unknown


class OrchestratorTurn:
    """One turn that runs there."""

    def __init__(
        self,
        stream: grpc.aio.StreamStreamCall[turn_pb2.RunTurnRequest, turn_pb2.RunTurnResponse],
        context_keys: tuple[str, ...],
    ) -> None:
        self._stream = stream
        self._writing = asyncio.Lock()  # grpc.aio takes one write at a time
        self.context_keys = context_keys

    async def frames(self) -> AsyncIterator[Frame]:
        """What the turn makes. Raises PeerUnavailable when the room breaks off."""
        try:
            async for response in self._stream:
                for frame in wire.frames(response):
                    yield frame
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error

    async def cancel(self) -> None:
        """Ask the turn to stop."""
        await self.send(turn_pb2.RunTurnRequest(cancel=turn_pb2.CancelTurn()))

    async def give_back(self) -> None:
        """Ask the turn to stop at its next step boundary."""
        request = turn_pb2.RunTurnRequest()
        getattr(request, "yield").SetInParent()  # the field's name is a word of the language
        await self.send(request)

    async def effect_recorded(self, call_id: str) -> None:
        """Let an action with effects run."""
        recorded = turn_pb2.EffectRecorded(call_id=call_id)
        await self.send(turn_pb2.RunTurnRequest(effect_recorded=recorded))

    async def host_result(self, finished: bytes) -> None:
        """Tell how an action of this room ended."""
        result = turn_pb2.HostResult(finished=chat_pb2.ToolFinished.FromString(finished))
        await self.send(turn_pb2.RunTurnRequest(host_result=result))

    async def send(self, frame: turn_pb2.RunTurnRequest) -> None:
        """Tell the turn something; without effect on one that is over."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._stream.write(frame)


class MediaVault:
    """media_svc, whose state is part of a backup."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = media_pb2_grpc.MediaServiceStub(channel)

    @asynccontextmanager
    async def write(self, backup_id: str) -> AsyncIterator[MediaState]:
        """Its whole state as of now. Raises PeerUnavailable."""
        request = media_pb2.WriteBackupRequest(backup_id=backup_id)
        async with streaming(self._stub.WriteBackup(request)) as stream:
            frames = aiter(stream)
            try:
                async with asyncio.timeout(CONNECT):
                    first = await anext(frames)
            except (TimeoutError, StopAsyncIteration) as error:
                raise PeerUnavailable("media_svc does not answer") from error
            except grpc.aio.AioRpcError as error:
                raise PeerUnavailable(f"media_svc: {error.code().name}") from error
            yield MediaState(first.header.format_version, frames)

    async def read(self, manifest: Manifest, path: Path) -> None:
        """Put the part of a backup in the place of its state. Raises PeerUnavailable and ArchiveInvalid."""
        try:
            await self._stub.ReadBackup(_backup_frames(manifest, path))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise PeerUnavailable(f"media_svc: {error.code().name}") from error
            raise ArchiveInvalid(f"media_svc: {error.code().name}") from error


class MediaState:
    """media_svc's state on its way."""

    def __init__(self, format: int, frames: AsyncIterator[media_pb2.WriteBackupResponse]) -> None:
        self.format = format
        self._frames = frames

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes. Raises PeerUnavailable when they do not come whole."""
        digest, finished = hashlib.sha256(), media_pb2.BackupFinished()
        try:
            async for frame in self._frames:
                digest.update(frame.chunk)
                finished = frame.finished
                if frame.chunk:
                    yield frame.chunk
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"media_svc: {error.code().name}") from error
        if finished.sha256 != digest.hexdigest():
            raise PeerUnavailable("media_svc's part did not come whole")


async def _backup_frames(manifest: Manifest, path: Path) -> AsyncIterator[media_pb2.ReadBackupRequest]:
    part = manifest.parts[archive.MEDIA]
    yield media_pb2.ReadBackupRequest(
        header=media_pb2.BackupHeader(
            backup_id=manifest.id,
            format_version=manifest.media_format,
            snapshot_time=timestamp(manifest.snapshot_us),
        )
    )
    pieces = archive.pieces(path, archive.MEDIA)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield media_pb2.ReadBackupRequest(chunk=piece)
    finished = media_pb2.BackupFinished(size=part.size, sha256=part.sha256)
    yield media_pb2.ReadBackupRequest(finished=finished)
