"""Search: words over all sessions of a person, the same set on both engines, and nothing of what was deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock
from tests.conftest import Place
from tests.interaction.context_svc.conversation_room import Room, caller, room
from tests.interaction.context_svc.refusal import refused

pytestmark = pytest.mark.requirement("CHAT-9")


async def search(here: Room, query: str, **rest: object) -> chat_pb2.SearchMessagesResponse:
    request = chat_pb2.SearchMessagesRequest(query=query, **rest)  # type: ignore[arg-type]
    return await here.stub.SearchMessages(request, timeout=30)


def texts(found: chat_pb2.SearchMessagesResponse) -> list[str]:
    return [match.message.parts[0].text for match in found.matches]


async def test_words_are_found_across_sessions_questions_and_answers_alike(database: Database) -> None:
    async with room(database) as here:
        one, two = await here.session(), await here.session()
        await here.say(one, "Where is the Café in Zürich?")
        await here.say(two, "A cafe near the lake")
        await here.say(two, "Nothing of it")
        assert sorted(texts(await search(here, "CAFE"))) == [
            "A cafe near the lake",
            "Where is the Café in Zürich?",
            "you said: A cafe near the lake",
            "you said: Where is the Café in Zürich?",
        ]
        assert sorted(texts(await search(here, "zurich cafe", session_id=one))) == [
            "Where is the Café in Zürich?",
            "you said: Where is the Café in Zürich?",
        ]
        assert texts(await search(here, "cafe", session_id=await here.session())) == []
        assert sorted(texts(await search(here, '"cafe near"')))[0] == "A cafe near the lake"
        assert texts(await search(here, '"Cafe near"')) == []
        assert texts(await search(here, "caf")) == []
        shown = (await search(here, "zurich")).matches[0]
        assert [shown.snippet[each.start : each.end] for each in shown.highlights] == ["Zürich"]


async def test_a_strangers_messages_are_not_found_and_their_session_does_not_exist(
    database: Database,
) -> None:
    async with room(database) as here:
        await here.say(await here.session(), "secret plan")
        other = await here.session("account-2")
        assert await refused(search(here, "plan", session_id=other)) == "SESSION_NOT_FOUND"
        await here.database.write(other, lambda: _given_away())
        assert texts(await search(here, "plan")) == []


async def test_a_query_without_a_word_is_refused_by_its_field(database: Database) -> None:
    async with room(database) as here:
        assert await refused(search(here, "?! …")) == "INVALID_FIELD"
        assert await refused(search(here, "word", page_token="bm9uc2Vuc2U")) == "PAGE_TOKEN_INVALID"


async def test_pages_show_each_finding_once_best_first(database: Database) -> None:
    async with room(database) as here:
        session = await here.session()
        said = [f"{'apple ' * (1 + number % 3)}number {number}" for number in range(12)]
        for text in said:
            await here.say(session, text)
        for query in ("apple", '"apple number"'):
            whole = texts(await search(here, query, page_size=100))
            assert len(whole) == len(set(whole)) == 24
            token, paged = "", list[str]()
            while True:
                page = await search(here, query, page_size=5, page_token=token)
                paged += texts(page)
                token = page.next_page_token
                if not token:
                    break
            assert paged == whole


async def test_a_deleted_session_leaves_no_finding_and_nothing_in_the_files(
    database: Database, database_place: Place
) -> None:
    canary = "xylophonecanary"
    async with room(database) as here:
        kept, gone = await here.session(), await here.session()
        await here.say(kept, "a marimba stays")
        await here.say(gone, f"the {canary} goes")
        assert len(texts(await search(here, canary))) == 2
        digest = (await here.database.read(lambda: _digests(database, gone))).split()
        await here.sessions.delete(caller(), gone, allow_missing=False)
        assert texts(await search(here, canary)) == []
        assert len(texts(await search(here, "marimba"))) == 2
        await here.database.write("clean", here.books.index.clean)
        await here.database.scrub()
        assert await here.database.read(_indexed) == 2
        if database.engine == "sqlite":
            path = database_place.url.removeprefix("sqlite://")
            stored = _files(path)
            assert canary.encode() not in stored
            assert len(digest) >= 3
            left = [each for each in digest if each.encode() in stored]
            assert left == []


async def test_what_retention_removes_is_not_found_any_more(database: Database) -> None:
    async with room(database, clock=FakeClock()) as here:
        session = await here.session()
        await here.say(session, "the first oboe")
        await here.say(session, "the second oboe")
        await here.database.write(session, lambda: _oldest_gone(session))
        assert sorted(texts(await search(here, "oboe"))) == ["the second oboe", "you said: the second oboe"]
        await here.say(session, "the third oboe")  # the index has no trouble with what is gone
        assert len(texts(await search(here, "oboe"))) == 4


def _files(path: str) -> bytes:
    return b"".join(Path(path + end).read_bytes() for end in ("", "-wal"))


def _given_away() -> Unit[None]:
    yield Statement("UPDATE session SET account_id = 'account-2'")


def _oldest_gone(session: str) -> Unit[None]:
    yield Statement(
        "DELETE FROM message WHERE session_id = :session AND turn_id = (SELECT turn_id FROM message"
        " WHERE session_id = :session ORDER BY sequence LIMIT 1)",
        {"session": session},
    )


def _digests(database: Database, session: str) -> Unit[str]:
    """The digests that stand only in the messages of this session."""
    if database.engine == "postgres":
        return ""
    rows = yield Statement(
        "SELECT i.words, f.session_id FROM message_index i JOIN message_search f ON f.id = i.rowid"
    )
    own = {word for row in rows if row["session_id"] == session for word in row["words"].split()}
    others = {word for row in rows if row["session_id"] != session for word in row["words"].split()}
    return " ".join(own - others)


def _indexed() -> Unit[int]:
    rows = yield Statement("SELECT count(*) AS count FROM message_search")
    count: int = rows[0]["count"]
    return count
