"""Learning: five equal choices in a row become one suggestion; nothing changes by itself. Verdicts on answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2 as pb
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock
from context_svc.errors import SuggestionNotFound
from context_svc.learning import Choice, habits
from context_svc.paging import PageTokens
from context_svc.suggestions import Evidence, Suggestions
from context_svc.wire import preferences as preference_wire
from context_svc.wire import suggestions as wire
from tests.interaction.context_svc.conversation_room import ACCOUNT, PlayedOrchestrator, caller, room
from tests.interaction.context_svc.refusal import refused
from tests.interaction.context_svc.test_titles import World

IMPERIAL = pb.UNIT_SYSTEM_IMPERIAL


class Learner(World):
    """A conversation whose habits are looked at."""

    @property
    def suggestions(self) -> Suggestions:
        here = self.here
        return Suggestions(
            here.database, self.clock, PageTokens(b"k" * 32), here.preferences.accept, wire.SuggestionWords()
        )

    async def say(self, session: str, **options: object) -> str:
        """One turn, and the look that follows it; the turn's id."""
        events = await self.here.say(session, "hello", options=chat_pb2.TurnOptions(**options))  # type: ignore[arg-type]
        await self.until(self.rested)
        return events[0].turn_id

    async def rested(self) -> bool:
        page = await self.here.jobs.list_page(caller(), size=200, token="", open_only=False)
        return all(job.state.over for job in page.jobs if job.kind == "learning")

    async def listed(self, state: int = 0, size: int = 0, token: str = "") -> pb.ListSuggestionsResponse:
        page = await self.suggestions.list_page(caller(), size=size, token=token, state=state)
        return wire.page(page)

    async def resolve(self, suggestion: str, *, accept: bool, request_id: str = "") -> pb.Suggestion:
        request = pb.ResolveSuggestionRequest(
            suggestion_id=suggestion,
            request_id=request_id or ids.uuid(),
            resolution=pb.SUGGESTION_STATE_ACCEPTED if accept else pb.SUGGESTION_STATE_DISMISSED,
        )
        answer = await self.suggestions.resolve(caller(), wire.resolution(request, ACCOUNT))
        return pb.ResolveSuggestionResponse.FromString(answer).suggestion

    async def preferred(self) -> pb.GetPreferencesResponse:
        return preference_wire.response(await self.here.preferences.layers(caller(), ""))


@asynccontextmanager
async def world(database: Database) -> AsyncIterator[Learner]:
    clock = FakeClock()
    async with room(database, PlayedOrchestrator(), background=True, clock=clock) as here:
        yield Learner(here, clock)


@pytest.mark.requirement("CTX-8")
async def test_the_fifth_equal_choice_in_a_row_makes_one_suggestion_with_its_evidence(
    database: Database,
) -> None:
    async with world(database) as here:
        first, second = await here.session(), await here.session()
        for _ in range(4):
            await here.say(first, units=IMPERIAL)
        await here.say(first, model="parrot")  # the row is broken
        turns = [(first, await here.say(first, units=IMPERIAL)) for _ in range(4)]
        assert not (await here.listed()).suggestions
        turns.append((second, await here.say(second, units=IMPERIAL)))
        (made,) = (await here.listed()).suggestions
        assert made.proposed == pb.Preferences(units=IMPERIAL)
        assert (made.field_path, made.state) == ("units", pb.SUGGESTION_STATE_PENDING)
        assert [(each.session_id, each.turn_id) for each in made.evidence] == turns
        assert (await here.preferred()).effective.units == pb.UNIT_SYSTEM_METRIC  # nothing changes by itself
        await here.say(first, units=IMPERIAL)
        assert len((await here.listed()).suggestions) == 1


@pytest.mark.requirement("CTX-8")
async def test_accepting_adds_a_layer_that_the_persons_own_choice_outweighs(database: Database) -> None:
    async with world(database) as here:
        session = await here.session()
        for _ in range(5):
            await here.say(session, language="de", model="parrot")
        page = await here.listed(size=1)
        rest = await here.listed(size=1, token=page.next_page_token)
        both = {each.field_path: each for each in (*page.suggestions, *rest.suggestions)}
        assert (set(both), rest.next_page_token) == ({"language", "model"}, "")
        request_id = ids.uuid()
        accepted = await here.resolve(both["language"].id, accept=True, request_id=request_id)
        assert accepted.state == pb.SUGGESTION_STATE_ACCEPTED
        assert await here.resolve(both["language"].id, accept=True, request_id=request_id) == accepted
        with pytest.raises(SuggestionNotFound):
            await here.resolve(both["language"].id, accept=False)
        found = await here.preferred()
        assert (found.effective.language, found.decided_by["language"]) == (
            "de",
            pb.PREFERENCE_LAYER_KIND_SUGGESTION,
        )
        request = pb.UpdatePreferencesRequest(
            request_id=ids.uuid(), preferences=pb.Preferences(language="fr")
        )
        await here.here.preferences.update(caller(), preference_wire.change(request, ACCOUNT))
        assert (await here.preferred()).effective.language == "fr"


@pytest.mark.requirement("CTX-8")
async def test_a_dismissed_suggestion_does_not_return(database: Database) -> None:
    async with world(database) as here:
        session = await here.session()
        for _ in range(5):
            await here.say(session, units=IMPERIAL)
        (made,) = (await here.listed()).suggestions
        await here.resolve(made.id, accept=False)
        for _ in range(5):
            await here.say(session, units=IMPERIAL)
        (same,) = (await here.listed()).suggestions
        assert (same.id, same.state) == (made.id, pb.SUGGESTION_STATE_DISMISSED)
        assert not (await here.listed(state=pb.SUGGESTION_STATE_PENDING)).suggestions
        assert (await here.preferred()).effective.units == pb.UNIT_SYSTEM_METRIC


@pytest.mark.requirement("CTX-8")
async def test_what_is_preferred_already_and_what_was_private_teaches_nothing(database: Database) -> None:
    async with world(database) as here:
        private = await here.session(session_pb2.SessionSettings(private=True))
        for _ in range(5):
            await here.say(private, units=IMPERIAL)
        request = pb.UpdatePreferencesRequest(
            request_id=ids.uuid(), preferences=pb.Preferences(model="parrot")
        )
        await here.here.preferences.update(caller(), preference_wire.change(request, ACCOUNT))
        session = await here.session()
        for _ in range(5):
            await here.say(session, model="parrot")
        assert not (await here.listed()).suggestions


def test_five_in_a_row_are_needed() -> None:
    def choice(number: int, **values: str) -> Choice:
        return Choice(evidence=Evidence(session_id="s", turn_id=str(number), choose_us=number), values=values)

    five = [choice(number, model="m", units="u") for number in range(5)]
    assert habits(five[:4]) == {}
    assert set(habits(five)) == {"model", "units"}
    assert habits([*five[:2], choice(9, model="m"), *five[3:]]).keys() == {"model"}
    assert habits([choice(9), *five]) == {}


@pytest.mark.requirement("CTX-8")
async def test_a_verdict_is_kept_with_its_answer_taken_back_and_goes_with_it(database: Database) -> None:
    async with world(database) as here:
        session = await here.session()
        events = await here.here.say(session, "hello")
        answer, question = events[-1].turn_finished.message.id, events[0].turn_accepted.message.id
        stub = here.here.stub

        async def rate(
            message: str, verdict: message_pb2.Verdict.ValueType, remark: str = ""
        ) -> message_pb2.Message:
            request = chat_pb2.RateMessageRequest(
                session_id=session,
                message_id=message,
                rating=message_pb2.Rating(verdict=verdict, remark=remark),
            )
            return (await stub.RateMessage(request)).message

        rated = await rate(answer, message_pb2.VERDICT_DOWN, "too long")
        assert (rated.rating.verdict, rated.rating.remark) == (message_pb2.VERDICT_DOWN, "too long")
        get = chat_pb2.GetMessageRequest(session_id=session, message_id=answer)
        assert (await stub.GetMessage(get)).message == rated
        assert rated.parts[0].text == "you said: hello"
        await rate(answer, message_pb2.VERDICT_UP)
        assert (await stub.GetMessage(get)).message.rating == message_pb2.Rating(
            verdict=message_pb2.VERDICT_UP
        )
        await rate(answer, message_pb2.VERDICT_UNSPECIFIED)
        assert not (await stub.GetMessage(get)).message.HasField("rating")
        for unknown in (question, "never"):
            assert await refused(rate(unknown, message_pb2.VERDICT_UP)) == "MESSAGE_NOT_FOUND"
        other = await here.here.session("account-2")
        request = chat_pb2.RateMessageRequest(
            session_id=other, message_id=answer, rating=message_pb2.Rating()
        )
        with pytest.raises(grpc.aio.AioRpcError, match="No such message"):
            await stub.RateMessage(request)
        await rate(answer, message_pb2.VERDICT_DOWN, "a secret remark")
        await here.here.sessions.delete(caller(), session, allow_missing=False)
        rows = await here.here.database.read(_messages)
        assert not any(b"secret remark" in bytes(row["data"]) for row in rows)


def _messages() -> Unit[list[dict[str, bytes]]]:
    rows = yield Statement("SELECT data FROM message")
    return [{"data": bytes(row["data"])} for row in rows]
