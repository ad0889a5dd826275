"""The only module of this room that dials another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from assistant.agent.v1 import agent_pb2, agent_pb2_grpc
from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from assistant.operator.v1 import operator_pb2, operator_pb2_grpc
from assistant.session.v1 import session_pb2, session_pb2_grpc
from chassis.dial import open_channel, streaming
from chassis.status import from_rpc_error
from mesh import answer, people, wire
from mesh.consent import Consent, Form
from mesh.credentials import Credentials
from mesh.health import MeshStatus
from mesh.rooms import Admin, Health, Readiness

_PROBE_TIMEOUT = 1.0  # seconds
_SILENCE = 45.0  # seconds without a frame after which a stream is taken for dead; the server speaks every 15
_VERSION = "0.1.0"
_MOST_CURSORS = 200
_PAGE = 200
_LONG = 1800.0  # seconds: the server's own bound for a backup

Bearer = Callable[[], Awaitable[str]]


async def serving(readiness: Readiness) -> bool:
    """Answer whether the room serves now. Never raises for a room that is away, silent or wrong."""
    match readiness:
        case Health(socket=socket):
            return socket.exists() and await _health(socket)
        case Admin(socket=socket):
            return socket.exists() and await _admin_ready(socket)


@asynccontextmanager
async def door(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Hold a channel to `host:port` or `unix:/path`."""
    async with open_channel(address, identity=None, callee="") as channel:
        yield channel


class Identity:
    """Accounts and sign-ins, through the public door."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = identity_pb2_grpc.IdentityServiceStub(channel)

    async def register(
        self, *, request_id: str, email: str, name: str, password: str, device_id: str, setup_code: str
    ) -> Credentials:
        """Make the first account and sign in. Raises CallFailed."""
        with _told():
            told = await self._stub.Register(
                identity_pb2.RegisterRequest(
                    request_id=request_id,
                    email=email,
                    display_name=name,
                    password=password,
                    device=_device(device_id),
                    setup_code=setup_code,
                )
            )
        return _credentials(told, device_id, email, password)

    async def login(self, *, email: str, password: str, device_id: str, secret: str) -> Credentials:
        """Sign in. Raises CallFailed."""
        with _told():
            told = await self._stub.Login(
                identity_pb2.LoginRequest(
                    email=email, password=password, device=_device(device_id), device_secret=secret
                )
            )
        return _credentials(told, device_id, email, "")

    async def refresh(self, old: Credentials) -> Credentials:
        """Exchange the refresh token; may be repeated until one of the new tokens was used. Raises
        CallFailed.
        """
        with _told():
            told = await self._stub.RefreshToken(
                identity_pb2.RefreshTokenRequest(refresh_token=old.refresh_token, device_id=old.device_id)
            )
        tokens = told.tokens
        return Credentials(
            device_id=old.device_id,
            email=old.email,
            access_token=tokens.access_token,
            access_expires_us=tokens.access_expire_time.ToMicroseconds(),
            refresh_token=tokens.refresh_token,
            device_secret=old.device_secret,
            password=old.password,
        )


class Conversation:
    """A person's sessions and turns, through the public door. `bearer` answers a good access token."""

    def __init__(self, channel: grpc.aio.Channel, bearer: Bearer) -> None:
        self._chat = chat_pb2_grpc.ChatServiceStub(channel)
        self._sessions = session_pb2_grpc.SessionServiceStub(channel)
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._bearer = bearer

    async def create_session(self, session_id: str) -> str:
        """Begin a session under a client-made id, which names it however often. Raises CallFailed."""
        request = session_pb2.CreateSessionRequest(session_id=session_id)
        return str((await self._ask(self._sessions.CreateSession, request)).session.id)

    async def sessions(self) -> list[answer.SessionLine]:
        """Answer the sessions used last, newest first. Raises CallFailed."""
        found = await self._ask(self._sessions.ListSessions, session_pb2.ListSessionsRequest(page_size=20))
        return [
            answer.SessionLine(
                id=each.id,
                title=each.title or each.preview or "(empty)",
                updated=each.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M"),
            )
            for each in found.sessions
        ]

    async def models(self) -> list[answer.ModelLine]:
        """Answer the catalogue. Raises CallFailed."""
        found = await self._ask(self._generation.ListModels, generation_pb2.ListModelsRequest())
        return [wire.model(each) for each in found.models]

    async def send(
        self, question: answer.Question | answer.Again, *, documented: bool
    ) -> AsyncIterator[answer.Event]:
        """Send a message or a wish, or join its turn when it was sent before, and follow the turn.

        Ends early when the stream was cut. Raises CallFailed, also for 45 s of silence.
        """
        if isinstance(question, answer.Again) or question.instead_of:
            accepted = await self._branch(question)
            yield wire.event(accepted, documented=documented)
            frames = self._watch(accepted)
        else:
            frames = self._send(question)
        async for event in frames:
            yield wire.event(event, documented=documented)

    async def _send(self, question: answer.Question) -> AsyncIterator[chat_pb2.ChatEvent]:
        request = chat_pb2.SendMessageRequest(message=wire.new_message(question), follow=True)
        metadata = await self._metadata()
        with _told():
            async with streaming(self._chat.SendMessage(request, metadata=metadata)) as frames:
                async for frame in _lively(aiter(frames)):
                    if frame.HasField("event"):
                        yield frame.event

    async def _branch(self, question: answer.Question | answer.Again) -> chat_pb2.ChatEvent:
        """Answer the TurnAccepted of an edit, or of another try."""
        if isinstance(question, answer.Again):
            made = await self._ask(self._chat.RegenerateTurn, wire.again(question))
        else:
            edit = chat_pb2.EditMessageRequest(
                session_id=question.session,
                message_id=question.instead_of,
                replacement=wire.new_message(question),
            )
            made = await self._ask(self._chat.EditMessage, edit)
        accepted: chat_pb2.ChatEvent = made.accepted
        return accepted

    async def _watch(self, accepted: chat_pb2.ChatEvent) -> AsyncIterator[chat_pb2.ChatEvent]:
        """Answer what follows in the turn, up to its last event."""
        cursor = session_pb2.SessionCursor(session_id=accepted.session_id, sequence=accepted.sequence)
        metadata = await self._metadata()
        with _told():
            request = chat_pb2.SubscribeEventsRequest(cursors=[cursor])
            async with streaming(self._chat.SubscribeEvents(request, metadata=metadata)) as frames:
                async for frame in _lively(aiter(frames)):
                    if frame.HasField("event") and frame.event.turn_id == accepted.turn_id:
                        yield frame.event

    async def notices(self, seen: dict[str, int]) -> AsyncIterator[answer.Event]:
        """What comes of itself in any session: from `seen` on, sequences by session, which it keeps up to date.

        Ends when the stream was cut. Raises CallFailed.
        """
        newest = list(seen.items())[-_MOST_CURSORS:]
        cursors = [session_pb2.SessionCursor(session_id=each, sequence=at) for each, at in newest]
        request = chat_pb2.SubscribeEventsRequest(cursors=cursors, all_sessions=True)
        metadata = await self._metadata()
        with _told():
            async with streaming(self._chat.SubscribeEvents(request, metadata=metadata)) as frames:
                async for frame in _lively(aiter(frames)):
                    event = frame.event
                    if frame.HasField("event"):
                        seen.pop(event.session_id, None)
                        seen[event.session_id] = event.sequence
                        if event.WhichOneof("event") in ("reminder_due", "job_finished"):
                            yield wire.event(event, documented=False)

    async def clear(self, session: str, request_id: str) -> None:
        """Empty a session. Raises CallFailed."""
        request = chat_pb2.ClearMessagesRequest(session_id=session, request_id=request_id)
        await self._ask(self._chat.ClearMessages, request)

    async def cancel(self, session: str, turn: str, request_id: str) -> None:
        """Stop a turn. Raises CallFailed."""
        request = chat_pb2.CancelTurnRequest(session_id=session, turn_id=turn, request_id=request_id)
        await self._ask(self._chat.CancelTurn, request)

    async def receipt(self, session: str, turn: str) -> answer.Receipt:
        """Answer what a turn used, cost and sent out. Raises CallFailed."""
        request = chat_pb2.GetTurnReceiptRequest(session_id=session, turn_id=turn)
        return wire.receipt((await self._ask(self._chat.GetTurnReceipt, request)).receipt)

    async def approve(
        self, session: str, turn: str, request_id: str, asked: answer.ApprovalAsked, consent: Consent
    ) -> None:
        """Answer an approval. Raises CallFailed."""
        request = chat_pb2.RespondToTurnRequest(
            session_id=session, turn_id=turn, request_id=request_id, approval=wire.approval(asked, consent)
        )
        await self._ask(self._chat.RespondToTurn, request)

    async def reply(self, session: str, turn: str, request_id: str, asked: answer.Asked, form: Form) -> None:
        """Answer a question. Raises CallFailed."""
        request = chat_pb2.RespondToTurnRequest(
            session_id=session, turn_id=turn, request_id=request_id, input=wire.filled(asked, form)
        )
        await self._ask(self._chat.RespondToTurn, request)

    async def _ask(self, method: Any, request: Any) -> Any:
        metadata = await self._metadata()
        with _told():
            return await method(request, metadata=metadata)

    async def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {await self._bearer()}"),)


class Operator:
    """What the owner of this machine may ask, through the operator's own socket."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = operator_pb2_grpc.OperatorServiceStub(channel)

    async def setup_code(self) -> str:
        """Answer the code the first account needs; empty once there is an account. Raises CallFailed."""
        with _told():
            told = await self._stub.GetSetupCode(operator_pb2.GetSetupCodeRequest())
        return told.setup_code

    async def status(self) -> MeshStatus:
        """Answer the mesh as context_svc sees it. Raises CallFailed."""
        with _told():
            told = await self._stub.GetStatus(operator_pb2.GetStatusRequest())
        return wire.status(told)

    async def log_epoch(self) -> str:
        """Answer the epoch of the log, which a restore changes. Raises CallFailed."""
        with _told():
            told = await self._stub.GetStatus(operator_pb2.GetStatusRequest())
        return str(told.log_epoch)

    async def create_backup(self, request_id: str, folder: str) -> people.Backup:
        """Make a backup; it is complete on return. Raises CallFailed."""
        request = operator_pb2.CreateBackupRequest(request_id=request_id, directory=folder)
        with _told():
            return wire.backup(await self._stub.CreateBackup(request, timeout=_LONG))

    async def restore_backup(self, request_id: str, path: str) -> people.Restored:
        """Put a backup in place. Raises CallFailed."""
        request = operator_pb2.RestoreBackupRequest(request_id=request_id, directory=path)
        with _told():
            return wire.restored(await self._stub.RestoreBackup(request, timeout=_LONG))

    async def invite(self, request_id: str, email: str) -> people.Invite:
        """Make an invite, for one address only if one is given. Raises CallFailed."""
        request = operator_pb2.CreateInviteRequest(request_id=request_id, email=email)
        with _told():
            return wire.invite(await self._stub.CreateInvite(request))

    async def users(self) -> list[people.UserLine]:
        """Answer all accounts, the oldest first. Raises CallFailed."""
        found, request = [], operator_pb2.ListUsersRequest(page_size=_PAGE)
        while True:
            with _told():
                page = await self._stub.ListUsers(request)
            found += [wire.user(each) for each in page.users]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def reset_password(self, request_id: str, account: str) -> str:
        """Give an account a password that the mesh makes, and answer it. Raises CallFailed."""
        request = operator_pb2.ResetPasswordRequest(request_id=request_id, account_id=account)
        with _told():
            return (await self._stub.ResetPassword(request)).generated_password

    async def delete(self, request_id: str, account_id: str, email: str) -> str:
        """Delete an account; answer by when it is erased (UTC). Raises CallFailed."""
        request = operator_pb2.DeleteUserRequest(
            request_id=request_id, account_id=account_id, confirm_email=email
        )
        with _told():
            told = await self._stub.DeleteUser(request)
        return wire.moment(told.erase_deadline)

    async def revoke(self, request_id: str, account: str, *, block: bool) -> int:
        """Sign an account out; answer from how many devices. Raises CallFailed."""
        request = operator_pb2.RevokeUserRequest(request_id=request_id, account_id=account, block=block)
        with _told():
            return (await self._stub.RevokeUser(request)).revoked_devices


class Account:
    """The account of the person at this terminal, through the public door."""

    def __init__(self, channel: grpc.aio.Channel, bearer: Bearer) -> None:
        self._stub = identity_pb2_grpc.IdentityServiceStub(channel)
        self._bearer = bearer

    async def me(self) -> people.Me:
        """Answer who is signed in. Raises CallFailed."""
        request = identity_pb2.GetCurrentUserRequest()
        return wire.me(await self._ask(self._stub.GetCurrentUser, request))

    async def devices(self) -> list[people.DeviceLine]:
        """Answer the devices used last, at most 200. Raises CallFailed."""
        request = identity_pb2.ListDevicesRequest(page_size=_PAGE)
        return [wire.device(each) for each in (await self._ask(self._stub.ListDevices, request)).devices]

    async def revoke(self, device: str) -> None:
        """Sign a device out. Raises CallFailed."""
        await self._ask(self._stub.RevokeDevice, identity_pb2.RevokeDeviceRequest(device_id=device))

    async def change_password(self, request_id: str, *, current: str, fresh: str) -> int:
        """Set a new password; answer how many other devices that signed out. Raises CallFailed."""
        request = identity_pb2.ChangePasswordRequest(
            request_id=request_id, current_password=current, new_password=fresh
        )
        return int((await self._ask(self._stub.ChangePassword, request)).revoked_devices)

    async def delete(self, request_id: str, password: str) -> str:
        """Delete the account; answer by when it is erased (UTC). Raises CallFailed."""
        request = identity_pb2.DeleteAccountRequest(request_id=request_id, password=password)
        told = await self._ask(self._stub.DeleteAccount, request)
        return wire.moment(told.erase_deadline)

    async def export(self, request_id: str, *, without_files: bool) -> AsyncIterator[bytes | people.Whole]:
        """The bytes of the account's archive, what it should be last. Raises CallFailed."""
        request = identity_pb2.ExportAccountRequest(request_id=request_id, without_blobs=without_files)
        metadata = (("authorization", f"Bearer {await self._bearer()}"),)
        with _told():
            async with streaming(self._stub.ExportAccount(request, metadata=metadata)) as frames:
                async for frame in _lively(aiter(frames)):
                    if frame.HasField("failed"):
                        raise wire.export_failed(frame.failed)
                    if frame.HasField("finished"):
                        yield people.Whole(size=frame.finished.size, sha256=frame.finished.sha256)
                    elif frame.chunk:
                        yield frame.chunk

    async def begin_import(self, request_id: str, whole: people.Whole) -> people.Import:
        """Announce an archive, or find how far it is. Raises CallFailed."""
        header = identity_pb2.ImportHeader(request_id=request_id, size=whole.size, sha256=whole.sha256)
        told = await self._ask(self._stub.CreateImport, identity_pb2.CreateImportRequest(header=header))
        return wire.account_import(told.account_import)

    async def write_import(self, import_id: str, offset: int, chunk: bytes) -> people.Import:
        """Send a piece of it. Raises CallFailed."""
        request = identity_pb2.WriteImportRequest(import_id=import_id, offset=offset, chunk=chunk)
        return wire.account_import((await self._ask(self._stub.WriteImport, request)).account_import)

    async def find_import(self, import_id: str) -> people.Import:
        """Answer how far it is. Raises CallFailed."""
        request = identity_pb2.GetImportRequest(import_id=import_id)
        return wire.account_import((await self._ask(self._stub.GetImport, request)).account_import)

    async def _ask(self, method: Any, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {await self._bearer()}"),)
        with _told():
            return await method(request, metadata=metadata)


class Agent:
    """What the assistant can do, through the public door."""

    def __init__(self, channel: grpc.aio.Channel, bearer: Bearer) -> None:
        self._stub = agent_pb2_grpc.AgentServiceStub(channel)
        self._bearer = bearer

    async def actions(self) -> list[people.ActionLine]:
        """Answer the actions by name, all pages. Raises CallFailed."""
        request = agent_pb2.ListCapabilitiesRequest(page_size=_PAGE)
        metadata = (("authorization", f"Bearer {await self._bearer()}"),)
        lines: list[people.ActionLine] = []
        with _told():
            while True:
                page = await self._stub.ListCapabilities(request, metadata=metadata)
                lines += map(wire.action, page.actions)
                if not page.next_page_token:
                    return lines
                request.page_token = page.next_page_token


@contextmanager
def _told() -> Iterator[None]:
    """Turn the transport's failures into ours, in words for a person."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise wire.call_failed(from_rpc_error(error)) from error


async def _lively(frames: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Answer the frames; a stream that is silent for too long ends as if it was cut."""
    while True:
        try:
            async with asyncio.timeout(_SILENCE):
                frame = await anext(frames)
        except (StopAsyncIteration, TimeoutError):
            return
        yield frame


def _device(device_id: str) -> identity_pb2.DeviceInfo:
    return identity_pb2.DeviceInfo(
        device_id=device_id,
        name="Terminal",
        platform=identity_pb2.DEVICE_PLATFORM_TERMINAL,
        app_version=_VERSION,
    )


def _credentials(
    told: identity_pb2.RegisterResponse | identity_pb2.LoginResponse,
    device_id: str,
    email: str,
    password: str,
) -> Credentials:
    return Credentials(
        device_id=device_id,
        email=email,
        access_token=told.tokens.access_token,
        access_expires_us=told.tokens.access_expire_time.ToMicroseconds(),
        refresh_token=told.tokens.refresh_token,
        device_secret=told.device_secret,
        password=password,
    )


async def _health(socket: Path) -> bool:
    try:
        async with open_channel(f"unix:{socket}", identity=None, callee="") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            told = await check(health_pb2.HealthCheckRequest(), timeout=_PROBE_TIMEOUT)
    except grpc.aio.AioRpcError:
        return False
    return bool(told.status == health_pb2.HealthCheckResponse.SERVING)


async def _admin_ready(socket: Path) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            return b" 200 " in await _status_line(socket)
    except (OSError, TimeoutError):
        return False


async def _status_line(socket: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(b"GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()
