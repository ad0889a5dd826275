"""ContextService: parse, call, build."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import grpc

from assistant.context.v1 import context_pb2 as pb
from assistant.context.v1.context_pb2_grpc import ContextServiceServicer, add_ContextServiceServicer_to_server
from chassis import call
from chassis.crossing import Context
from context_svc.context_feed import ContextFeed
from context_svc.context_items import ContextItems
from context_svc.preferences import Preferences
from context_svc.suggestions import Suggestions
from context_svc.wire import items as wire
from context_svc.wire import preferences, suggestions


class ContextServicer(ContextServiceServicer):
    """What is known of the calling person. Answers of commands are kept, and given as the bytes they were."""

    def __init__(
        self,
        items: ContextItems,
        feed: ContextFeed,
        preferences: Preferences,
        suggestions: Suggestions,
        log_epoch: str,
    ) -> None:
        self._items = items
        self._feed = feed
        self._preferences = preferences
        self._suggestions = suggestions
        self._epoch = log_epoch

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        add_ContextServiceServicer_to_server(self, server)

    async def GetContext(self, request: pb.GetContextRequest, context: Context) -> pb.GetContextResponse:
        """See the contract."""
        user = call.current().user()
        found = await self._items.read(
            user,
            wire.scope(request.session_id, user.account),
            wire.selection(request),
            with_user=request.include_user_scope,
        )
        return wire.read(found, self._epoch)

    async def UpdateContext(
        self, request: pb.UpdateContextRequest, context: Context
    ) -> pb.UpdateContextResponse:
        """See the contract."""
        user = call.current().user()
        answer = await self._items.update(user, wire.update(request, user.account))
        return cast("pb.UpdateContextResponse", answer)

    async def DeleteContextItems(
        self, request: pb.DeleteContextItemsRequest, context: Context
    ) -> pb.DeleteContextItemsResponse:
        """See the contract."""
        user = call.current().user()
        answer = await self._items.delete(user, wire.deletion(request, user.account))
        return cast("pb.DeleteContextItemsResponse", answer)

    async def WatchContext(
        self, request: pb.WatchContextRequest, context: Context
    ) -> AsyncIterator[pb.WatchContextResponse]:
        """See the contract."""
        user = call.current().user()
        frames = self._feed.frames(user, wire.scope(request.session_id, user.account), wire.place(request))
        async for frame in frames:
            yield wire.frame(frame, self._epoch)

    async def GetPreferences(
        self, request: pb.GetPreferencesRequest, context: Context
    ) -> pb.GetPreferencesResponse:
        """See the contract."""
        layers = await self._preferences.layers(call.current().user(), request.session_id)
        return preferences.response(layers)

    async def UpdatePreferences(
        self, request: pb.UpdatePreferencesRequest, context: Context
    ) -> pb.UpdatePreferencesResponse:
        """See the contract."""
        user = call.current().user()
        answer = await self._preferences.update(user, preferences.change(request, user.account))
        return cast("pb.UpdatePreferencesResponse", answer)

    async def ListSuggestions(
        self, request: pb.ListSuggestionsRequest, context: Context
    ) -> pb.ListSuggestionsResponse:
        """See the contract."""
        page = await self._suggestions.list_page(
            call.current().user(),
            size=request.page_size,
            token=request.page_token,
            state=request.state,
        )
        return suggestions.page(page)

    async def ResolveSuggestion(
        self, request: pb.ResolveSuggestionRequest, context: Context
    ) -> pb.ResolveSuggestionResponse:
        """See the contract."""
        user = call.current().user()
        answer = await self._suggestions.resolve(user, suggestions.resolution(request, user.account))
        return cast("pb.ResolveSuggestionResponse", answer)
