"""Suggestions on the wire. Pure."""

from __future__ import annotations

from assistant.context.v1 import context_pb2 as pb
from context_svc.suggestions import Page, Resolution, Suggestion
from context_svc.wire.items import command
from context_svc.wire.preferences import proposed
from context_svc.wire.times import timestamp, timestamp_or_none


def page(value: Page) -> pb.ListSuggestionsResponse:
    """A page of suggestions."""
    return pb.ListSuggestionsResponse(
        suggestions=map(suggestion, value.suggestions), next_page_token=value.next_token
    )


def resolution(request: pb.ResolveSuggestionRequest, account_id: str) -> Resolution:
    """What the person decided."""
    return Resolution(
        command=command(request, account_id),
        suggestion_id=request.suggestion_id,
        accepted=request.resolution == pb.SUGGESTION_STATE_ACCEPTED,
    )


def suggestion(value: Suggestion) -> pb.Suggestion:
    """A suggestion as the person sees it."""
    return pb.Suggestion(
        id=value.id,
        proposed=proposed(value.field, value.value),
        field_path=value.field,
        evidence=[
            pb.SuggestionEvidence(
                session_id=each.session_id, turn_id=each.turn_id, choose_time=timestamp(each.choose_us)
            )
            for each in value.evidence
        ],
        state=pb.SuggestionState.ValueType(int(value.state)),
        create_time=timestamp(value.create_us),
        resolve_time=timestamp_or_none(value.resolve_us),
    )


class SuggestionWords:
    """Writes the answers of commands."""

    def resolved(self, suggestion_: Suggestion) -> bytes:
        """A serialised ResolveSuggestionResponse."""
        return pb.ResolveSuggestionResponse(suggestion=suggestion(suggestion_)).SerializeToString()
