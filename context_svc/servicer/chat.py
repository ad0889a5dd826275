"""ChatService: parse, call, build."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from chassis import call
from chassis.crossing import Context
from context_svc.batches import send_all
from context_svc.conversations import Conversations
from context_svc.messages import History
from context_svc.receipts import Receipts
from context_svc.search import Search
from context_svc.turn_commands import TurnCommands
from context_svc.wire import chat as wire
from context_svc.wire import replies
from context_svc.wire import turn_commands as commands
from context_svc.wire.receipts import receipt_response


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """The conversation, over gRPC and what Envoy makes of it."""

    def __init__(
        self,
        conversations: Conversations,
        history: History,
        turns: TurnCommands,
        receipts: Receipts,
        search: Search,
    ) -> None:
        self._conversations = conversations
        self._history = history
        self._turns = turns
        self._receipts = receipts
        self._search = search

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        chat_pb2_grpc.add_ChatServiceServicer_to_server(self, server)

    async def Chat(
        self, request_iterator: AsyncIterator[chat_pb2.ChatRequest], context: Context
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Everything on one stream."""
        user = call.current().user()
        incoming = (wire.incoming(request, user.account) async for request in request_iterator)
        async for frame in self._conversations.converse(user, incoming):
            yield wire.frame(frame, chat_pb2.ChatResponse)

    async def SendMessage(
        self, request: chat_pb2.SendMessageRequest, context: Context
    ) -> AsyncIterator[chat_pb2.SendMessageResponse]:
        """One message."""
        user = call.current().user()
        submission = wire.checked_submission(request.message, user.account)
        async for frame in self._conversations.send(user, submission, follow=request.follow):
            yield wire.frame(frame, chat_pb2.SendMessageResponse)

    async def SubscribeEvents(
        self, request: chat_pb2.SubscribeEventsRequest, context: Context
    ) -> AsyncIterator[chat_pb2.SubscribeEventsResponse]:
        """Follow logs."""
        cursors = [wire.cursor(each) for each in request.cursors]
        frames = self._conversations.events(call.current().user(), cursors, all_sessions=request.all_sessions)
        async for frame in frames:
            yield wire.frame(frame, chat_pb2.SubscribeEventsResponse)

    async def ListEvents(
        self, request: chat_pb2.ListEventsRequest, context: Context
    ) -> chat_pb2.ListEventsResponse:
        """A page of a log."""
        page = await self._conversations.page(
            call.current().user(),
            wire.list_cursor(request),
            limit=request.page_size or 200,
            wait_seconds=request.wait.ToTimedelta().total_seconds(),
        )
        return wire.event_page(page)

    async def AckEvents(
        self, request: chat_pb2.AckEventsRequest, context: Context
    ) -> chat_pb2.AckEventsResponse:
        """Note what was shown."""
        cursors = [wire.cursor(each) for each in request.cursors]
        return wire.acknowledged(await self._conversations.acknowledge(call.current().user(), cursors))

    async def ListMessages(
        self, request: chat_pb2.ListMessagesRequest, context: Context
    ) -> chat_pb2.ListMessagesResponse:
        """A page of a history."""
        page = await self._history.page(
            call.current().user().account,
            request.session_id,
            size=request.page_size,
            token=request.page_token,
            newest_first=request.order != chat_pb2.LIST_ORDER_OLDEST_FIRST,
            leaf_id=request.leaf_id,
        )
        return wire.message_page(page)

    async def GetMessage(
        self, request: chat_pb2.GetMessageRequest, context: Context
    ) -> chat_pb2.GetMessageResponse:
        """One message."""
        data = await self._history.message(
            call.current().user().account, request.session_id, request.message_id
        )
        return wire.message_response(data)

    async def SearchMessages(
        self, request: chat_pb2.SearchMessagesRequest, context: Context
    ) -> chat_pb2.SearchMessagesResponse:
        """Find messages."""
        page = await self._search.page(
            call.current().user().account,
            request.query,
            session_id=request.session_id,
            size=request.page_size,
            token=request.page_token,
        )
        return wire.match_page(page)

    async def RateMessage(
        self, request: chat_pb2.RateMessageRequest, context: Context
    ) -> chat_pb2.RateMessageResponse:
        """Keep a verdict."""
        data = await self._history.rate(
            call.current().user().account, request.session_id, request.message_id, wire.rated(request)
        )
        return wire.rated_response(data)

    async def CancelTurn(
        self, request: chat_pb2.CancelTurnRequest, context: Context
    ) -> chat_pb2.CancelTurnResponse:
        """Stop a turn."""
        state = await self._conversations.cancel(
            call.current().user(), request.session_id, request.turn_id, request_id=request.request_id
        )
        return wire.cancelled(state)

    async def GetTurnReceipt(
        self, request: chat_pb2.GetTurnReceiptRequest, context: Context
    ) -> chat_pb2.GetTurnReceiptResponse:
        """What a turn used."""
        account = call.current().user().account
        return receipt_response(await self._receipts.of_turn(account, request.session_id, request.turn_id))

    async def RespondToTurn(
        self, request: chat_pb2.RespondToTurnRequest, context: Context
    ) -> chat_pb2.RespondToTurnResponse:
        """Answer what a turn waits for."""
        user = call.current().user()
        return replies.responded(
            await self._conversations.respond(user, replies.reply(request, user.account))
        )

    async def SendMessageBatch(
        self, request: chat_pb2.SendMessageBatchRequest, context: Context
    ) -> chat_pb2.SendMessageBatchResponse:
        """Messages of several sessions."""
        letters = commands.letters(request, call.current().user().account)
        done = await send_all(letters, self._conversations.accept)
        return commands.outcomes(letters, done, call.current().request_id)

    async def EditMessage(
        self, request: chat_pb2.EditMessageRequest, context: Context
    ) -> chat_pb2.EditMessageResponse:
        """Say a message differently."""
        said = commands.edit(request, call.current().user().account)
        return commands.edited(await self._conversations.accept(said))

    async def RegenerateTurn(
        self, request: chat_pb2.RegenerateTurnRequest, context: Context
    ) -> chat_pb2.RegenerateTurnResponse:
        """Ask for another answer."""
        again = commands.again(request, call.current().user().account)
        return commands.regenerated(await self._turns.regenerate(again))

    async def ImportAnswer(
        self, request: chat_pb2.ImportAnswerRequest, context: Context
    ) -> chat_pb2.ImportAnswerResponse:
        """Store an answer made offline."""
        offline = commands.offline_answer(request, call.current().user().account)
        return commands.imported(await self._turns.import_answer(offline))

    async def ClearMessages(
        self, request: chat_pb2.ClearMessagesRequest, context: Context
    ) -> chat_pb2.ClearMessagesResponse:
        """Empty a session."""
        through = await self._turns.clear(call.current().user(), request.session_id, request.request_id)
        return commands.cleared(through)
