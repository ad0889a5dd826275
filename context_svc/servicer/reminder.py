"""ReminderService: parse, call, build."""

from __future__ import annotations

import grpc

from assistant.reminder.v1 import reminder_pb2, reminder_pb2_grpc
from chassis import call
from chassis.crossing import Context
from context_svc.reminders import Reminders
from context_svc.wire import reminders as wire


class ReminderServicer(reminder_pb2_grpc.ReminderServiceServicer):
    """A text that comes back once, at its time."""

    def __init__(self, reminders: Reminders) -> None:
        self._reminders = reminders

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        reminder_pb2_grpc.add_ReminderServiceServicer_to_server(self, server)

    async def CreateReminder(
        self, request: reminder_pb2.CreateReminderRequest, context: Context
    ) -> reminder_pb2.CreateReminderResponse:
        """Make a reminder."""
        made = await self._reminders.create(call.current().user(), wire.wanted(request))
        return reminder_pb2.CreateReminderResponse(reminder=wire.reminder(made))

    async def ListReminders(
        self, request: reminder_pb2.ListRemindersRequest, context: Context
    ) -> reminder_pb2.ListRemindersResponse:
        """A page of reminders."""
        page = await self._reminders.list_page(
            call.current().user(),
            size=request.page_size,
            token=request.page_token,
            state=request.state,
            session_id=request.session_id,
        )
        return wire.page(page)

    async def DeleteReminder(
        self, request: reminder_pb2.DeleteReminderRequest, context: Context
    ) -> reminder_pb2.DeleteReminderResponse:
        """Take a reminder away."""
        await self._reminders.delete(
            call.current().user(), request.reminder_id, allow_missing=request.allow_missing
        )
        return reminder_pb2.DeleteReminderResponse()
