"""Memories: proposed in the background out of the person's own words, never against them. On both engines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from assistant.context.v1 import context_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.database import Database
from chassis.testing import FakeClock
from context_svc.item_rows import Selection
from context_svc.items import Author, Item, ItemWrite, Placement, Scope, Source
from context_svc.job_rows import JobState
from context_svc.memories import proposals, spoken
from context_svc.wire import items as item_wire
from context_svc.wire import preferences as preference_wire
from tests.interaction.context_svc.conversation_room import (
    ACCOUNT,
    PlayedOrchestrator,
    Stage,
    answers_at_once,
    caller,
    room,
)
from tests.interaction.context_svc.test_titles import World

MEMORY = turn_pb2.TURN_PURPOSE_MEMORY
MINE = Scope(account_id=ACCOUNT)


class Remembering(World):
    """A conversation whose background model names memories."""

    def looked(self) -> list[turn_pb2.StartTurn]:
        return [start for start in self.here.orchestrator.starts if start.purpose == MEMORY]

    async def done(self) -> bool:
        page = await self.here.jobs.list_page(caller(), size=0, token="", open_only=False)
        return all(job.state is JobState.DONE for job in page.jobs if job.kind == "memory")

    async def look(self) -> None:
        """Let the two minutes pass after which it is looked, and the look end."""
        await self.clock.advance(timedelta(minutes=2))
        await self.until(self.done)

    async def memories(self) -> list[Item]:
        read = await self.here.items.read(caller(), MINE, Selection(prefix="memory."), with_user=False)
        return list(read.items)

    async def texts(self) -> list[str]:
        return sorted(json.loads(item.value)["text"] for item in await self.memories())

    async def prefer(self, **fields: object) -> None:
        request = context_pb2.UpdatePreferencesRequest(
            request_id=ids.uuid(),
            preferences=context_pb2.Preferences(**fields),  # type: ignore[arg-type]
        )
        await self.here.preferences.update(caller(), preference_wire.change(request, ACCOUNT))


@asynccontextmanager
async def world(database: Database, named: str) -> AsyncIterator[Remembering]:
    async def play(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        if stage.start.purpose == turn_pb2.TURN_PURPOSE_ANSWER:
            async for response in answers_at_once(stage):
                yield response
            return
        yield stage.started()
        yield stage.finished(named if stage.start.purpose == MEMORY else "A title")

    orchestrator, clock = PlayedOrchestrator(), FakeClock()
    orchestrator.play = play
    async with room(database, orchestrator, background=True, clock=clock) as here:
        yield Remembering(here, clock)


def memory(key: str, text: str, source: Source = Source.USER) -> ItemWrite:
    value = json.dumps({"text": text}, separators=(",", ":"))
    return ItemWrite(key=f"memory.{key}", value=value, author=Author(source=source))


@pytest.mark.requirement("CTX-6")
async def test_what_the_person_said_of_themselves_becomes_memories_with_their_turn(
    database: Database,
) -> None:
    async with world(
        database,
        "- I walk my dog Rex\n- I live in Graz.\n- Paris is nice\n- i live in graz\n- What is the time?",
    ) as here:
        await here.here.database.write(
            "m", lambda: here.here.items.put(MINE, [memory("1", "I live in Graz")], 1)
        )
        session = await here.session()
        events = await here.here.say(session, "I live in Graz, and I walk my dog Rex every day.")
        await here.here.say(session, "what is the time?")
        await here.look()
        assert await here.texts() == ["I live in Graz", "I walk my dog Rex"]
        (item,) = [each for each in await here.memories() if each.source is Source.MODEL]
        assert item.turn_id == events[0].turn_id
        for asked in here.looked():  # one look for both turns; a busy machine may have to look again
            said = [part.text for message in asked.material.messages for part in message.parts]
            assert said == ["I live in Graz, and I walk my dog Rex every day.", "what is the time?"]
            assert [fact.value_json for fact in asked.material.facts] == ['"I live in Graz"']
        value = context_pb2.ContextItemWrite(key=item.key)
        value.value.struct_value.fields["text"].string_value = "Has a cat called Rex."
        request = context_pb2.UpdateContextRequest(request_id=ids.uuid(), items=[value])
        await here.here.items.update(caller(), item_wire.update(request, ACCOUNT))
        (edited,) = [each for each in await here.memories() if each.key == item.key]
        assert (edited.source, edited.turn_id) == (Source.USER, item.turn_id)
        assert "Has a cat called Rex." in await here.texts()
        await here.here.say(session, "and now?")
        told = here.here.orchestrator.starts[-1].material.facts
        assert {(fact.value_json, fact.trust) for fact in told} == {
            ('"Has a cat called Rex."', message_pb2.TRUST_PERSON),
            ('"I live in Graz"', message_pb2.TRUST_PERSON),
        }


@pytest.mark.requirement("CTX-6")
async def test_nothing_is_proposed_where_the_person_does_not_want_it(database: Database) -> None:
    async with world(database, "I have a secret\nI have a dog") as here:
        private = await here.session(session_pb2.SessionSettings(private=True))
        await here.here.say(private, "I have a secret")
        await here.look()
        await here.prefer(memory_enabled=False)
        session = await here.session()
        await here.here.say(session, "I have a dog")
        await here.look()
        assert (here.looked(), await here.texts()) == ([], [])


@pytest.mark.requirement("CTX-6")
async def test_one_taken_back_while_the_model_thinks_is_not_stored(database: Database) -> None:
    async with world(database, "I have a dog") as here:
        session = await here.session()
        await here.here.say(session, "I have a dog")
        usual = here.here.orchestrator.play

        async def play(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            if stage.start.purpose == MEMORY:
                await here.prefer(memory_enabled=False)
            async for response in usual(stage):
                yield response

        here.here.orchestrator.play = play
        await here.look()
        assert (len(here.looked()), await here.texts()) == (1, [])


@pytest.mark.requirement("CTX-6")
async def test_a_memory_of_words_that_must_stay_here_stays_here(database: Database) -> None:
    async with world(database, "I have a dog") as here:
        session = await here.session()
        await here.here.say(session, "I have a dog", placement=message_pb2.PLACEMENT_LOCAL_ONLY)
        await here.look()
        assert [item.placement for item in await here.memories()] == [Placement.LOCAL_ONLY]
        assert here.looked()[0].material.placement == message_pb2.PLACEMENT_LOCAL_ONLY


@pytest.mark.requirement("CTX-2", "CTX-6")
async def test_neither_model_nor_tool_may_write_over_what_the_person_wrote(database: Database) -> None:
    async with world(database, "") as here:
        items, database_ = here.here.items, here.here.database
        await database_.write("m", lambda: items.put(MINE, [memory("1", "mine")], 1))
        for source in (Source.MODEL, Source.TOOL):
            over = memory("1", "theirs", source)
            with pytest.raises(Exception, match="cannot be written") as caught:
                await database_.write("m", lambda over=over: items.put(MINE, [over], 2))  # type: ignore[misc]
            assert type(caught.value).__name__ == "ContextSourceForbidden"
        assert await here.texts() == ["mine"]


@pytest.mark.parametrize(
    ("named", "lines"),
    [
        ("NONE", []),
        ("none.", []),
        ("1. Has a dog\n2) Likes tea\n* 3 children\n\n", ["Has a dog", "Likes tea", "3 children"]),
        ("x" * 301, []),
        ("a\nb\nc\nd\ne\nf", ["a", "b", "c", "d", "e"]),
    ],
)
def test_a_model_names_memories_one_a_line(named: str, lines: list[str]) -> None:
    assert proposals(named) == lines


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("I have a dog called Rex.", True),
        ("\u201ci\u2019m  allergic to nuts\u201d", True),
        ("I have a cat", False),
        ("Paris is the capital of France.", False),
        ("What is 2+2?", False),
    ],
)
def test_a_memory_is_what_the_person_said_word_for_word(line: str, kept: bool) -> None:
    assert spoken(line, "Hi. I have a dog called Rex, and I'm allergic\nto nuts! What is 2+2?") is kept
