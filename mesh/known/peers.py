"""What the terminal asks the mesh of what is known: context, preferences, consents."""

from typing import Any

import grpc

from assistant.context.v1 import context_pb2, context_pb2_grpc
from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from assistant.reminder.v1 import reminder_pb2, reminder_pb2_grpc
from chassis.status import from_rpc_error
from mesh.answer import ReminderLine
from mesh.errors import ValueUnusable
from mesh.known import wire
from mesh.known.lines import ConsentLine, MemoryLine, PreferenceLine, SuggestionLine
from mesh.peers import Bearer
from mesh.wire import call_failed, reminder

_PAGE = 200


class Known:
    """What the mesh knows of the person at this terminal, through the public door."""

    def __init__(self, channel: grpc.aio.Channel, bearer: Bearer) -> None:
        self._context = context_pb2_grpc.ContextServiceStub(channel)
        self._reminders = reminder_pb2_grpc.ReminderServiceStub(channel)
        self._identity = identity_pb2_grpc.IdentityServiceStub(channel)
        self._bearer = bearer

    async def preferences(self) -> list[PreferenceLine]:
        """Answer the preferences in force. Raises CallFailed."""
        request = context_pb2.GetPreferencesRequest()
        return wire.preferences(await self._ask(self._context.GetPreferences, request))

    async def prefer(self, request_id: str, name: str, value: str) -> None:
        """Set one preference; without a value the person's choice is taken back.

        Raises CallFailed, and ValueUnusable for a name or a value that is none.
        """
        request = wire.preferring(request_id, name, value)
        await self._ask(self._context.UpdatePreferences, request)

    async def consents(self) -> list[ConsentLine]:
        """Answer what this device may report. Raises CallFailed."""
        request = identity_pb2.GetCurrentUserRequest()
        return wire.consents((await self._ask(self._identity.GetCurrentUser, request)).device)

    async def decide(self, request_id: str, device: str, kind: str, *, granted: bool, anywhere: bool) -> None:
        """Give or withdraw a consent. Raises CallFailed, and ValueUnusable for a kind that is none."""
        request = wire.deciding(request_id, device, kind, granted=granted, anywhere=anywhere)
        await self._ask(self._identity.UpdateDevice, request)

    async def memories(self) -> list[MemoryLine]:
        """Answer every memory, the newest first. Raises CallFailed."""
        request = context_pb2.GetContextRequest(key_prefix=wire.MEMORY)
        found = await self._ask(self._context.GetContext, request)
        return sorted(map(wire.memory, found.items), key=lambda line: line.updated, reverse=True)

    async def write_memory(self, request_id: str, memory: str, text: str) -> None:
        """Write a memory. Raises CallFailed."""
        await self._ask(self._context.UpdateContext, wire.remembering(request_id, memory, text, version=0))

    async def correct_memory(self, request_id: str, memory: str, text: str) -> None:
        """Give a memory that is there other words. Raises CallFailed, and ValueUnusable when it is not."""
        request = context_pb2.GetContextRequest(keys=[wire.MEMORY + memory])
        found = (await self._ask(self._context.GetContext, request)).items
        if not found:
            raise ValueUnusable(f"There is no memory {memory}.", "`mesh account memories` lists yours.")
        correction = wire.remembering(request_id, memory, text, version=found[0].version)
        await self._ask(self._context.UpdateContext, correction)

    async def forget(self, request_id: str, memory: str) -> int:
        """Delete a memory, or all for ""; answer how many were there. Raises CallFailed."""
        request = context_pb2.DeleteContextItemsRequest(request_id=request_id)
        if memory:
            request.keys.append(wire.MEMORY + memory)
        else:
            request.key_prefix = wire.MEMORY
        return len((await self._ask(self._context.DeleteContextItems, request)).deleted)

    async def suggestions(self) -> list[SuggestionLine]:
        """Answer what is proposed, the newest first, at most 200. Raises CallFailed."""
        request = context_pb2.ListSuggestionsRequest(
            page_size=_PAGE, state=context_pb2.SUGGESTION_STATE_PENDING
        )
        found = await self._ask(self._context.ListSuggestions, request)
        return [wire.suggestion(each) for each in found.suggestions]

    async def resolve(self, request_id: str, suggestion: str, *, accept: bool) -> None:
        """Accept or dismiss what is proposed. Raises CallFailed."""
        resolution = (
            context_pb2.SUGGESTION_STATE_ACCEPTED if accept else context_pb2.SUGGESTION_STATE_DISMISSED
        )
        request = context_pb2.ResolveSuggestionRequest(
            request_id=request_id, suggestion_id=suggestion, resolution=resolution
        )
        await self._ask(self._context.ResolveSuggestion, request)

    async def reminders(self) -> list[ReminderLine]:
        """Answer the reminders by time, at most 200. Raises CallFailed."""
        request = reminder_pb2.ListRemindersRequest(page_size=_PAGE)
        return [
            reminder(each) for each in (await self._ask(self._reminders.ListReminders, request)).reminders
        ]

    async def take_back(self, reminder_id: str) -> None:
        """Take a reminder back. Raises CallFailed."""
        request = reminder_pb2.DeleteReminderRequest(reminder_id=reminder_id)
        await self._ask(self._reminders.DeleteReminder, request)

    async def _ask(self, method: Any, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {await self._bearer()}"),)
        try:
            return await method(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise call_failed(from_rpc_error(error)) from error
