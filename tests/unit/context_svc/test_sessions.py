"""Sessions and the log: what a change appends, and that nobody hears of it before it is durable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from chassis.call import User
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock
from context_svc import sessions as module
from context_svc.errors import QuotaExceeded, VersionMismatch
from context_svc.paging import PageTokens
from context_svc.schema import MIGRATIONS
from context_svc.session_rows import Session, SessionState
from context_svc.sessions import Listed, NewSession, SessionChange, Sessions, Then
from context_svc.turn_rows import OpenTurn

USER = User(account="a", sign_in="s", scopes=frozenset(), expires_at_us=0)
TURN = OpenTurn(turn_id="t", state=2, message_id="m", sequence=1, expire_us=None)


@dataclass
class Recorder:
    """A journal and turns that write down what they were asked, and when it was announced."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)

    def session_changed(self, session: Session, changed: tuple[str, ...]) -> Unit[Then]:
        yield Statement("SELECT 1 AS one")
        self.asked.append(("changed", session.title, session.state.name, *changed))
        return lambda: self.announced.append("changed")

    def open_turns(self, sessions: Sequence[str]) -> Unit[Mapping[str, Sequence[OpenTurn]]]:
        yield Statement("SELECT 1 AS one")
        return {session: (TURN,) for session in sessions if session == "busy"}

    def cancel_all(self, session: str) -> Unit[Then]:
        yield Statement("SELECT 1 AS one")
        self.asked.append(("cancel", session))
        return lambda: self.announced.append("cancel")

    def forget(self, session: str) -> Unit[Then]:
        yield Statement("SELECT 1 AS one")
        self.asked.append(("forget", session))
        return lambda: self.announced.append("forget")


@pytest.fixture
def log() -> Recorder:
    return Recorder()


@pytest.fixture
async def sessions(database: Database, log: Recorder) -> Sessions:
    await database.migrate(MIGRATIONS)
    await database.write("a", person)
    return Sessions(database, FakeClock(), PageTokens(b"k"), log, log)


def person() -> Unit[None]:
    for sql in (
        "INSERT INTO account (id, email, email_key, display_name, password_hash, version, session_count, create_us,"
        " update_us) VALUES ('a', 'e', 'e', 'n', 'h', 1, 0, 0, 0)",
        "INSERT INTO device (account_id, id, name, named_by_person, platform, app_version, secret_hash,"
        " earlier_secret_hash, version, create_us, last_use_us) VALUES ('a', 'd', 'n', 0, 4, '1', NULL, NULL, 1, 0, 0)",
        "INSERT INTO sign_in VALUES ('s', 'a', 'd', 0, 1, NULL)",
    ):
        yield Statement(sql)


def new(session_id: str, title: str = "Old") -> NewSession:
    return NewSession(id=session_id, title=title, settings=b"", sealed=False)


def to_title(title: str) -> SessionChange:
    return SessionChange(title=title, settings=None, names=("title",))


async def test_a_new_session_is_no_event(sessions: Sessions, log: Recorder) -> None:
    await sessions.create(USER, new("one"))
    assert log == Recorder()


async def test_a_change_is_one_event_announced_when_it_is_durable(sessions: Sessions, log: Recorder) -> None:
    await sessions.create(USER, new("one"))
    await sessions.update(USER, "one", lambda _: to_title("New"), expected_version=1)
    assert log.asked == [("changed", "New", "OPEN", "title")]
    assert log.announced == ["changed"]


async def test_no_change_and_a_refused_change_are_no_event(sessions: Sessions, log: Recorder) -> None:
    await sessions.create(USER, new("one"))
    await sessions.update(USER, "one", lambda _: to_title("Old"), expected_version=0)
    with pytest.raises(VersionMismatch):
        await sessions.update(USER, "one", lambda _: to_title("New"), expected_version=7)
    assert log == Recorder()


async def test_an_end_cancels_the_turns_and_is_one_event(sessions: Sessions, log: Recorder) -> None:
    await sessions.create(USER, new("one"))
    first = await sessions.end(USER, "one")
    second = await sessions.end(USER, "one")
    assert first == second
    assert log.asked == [("cancel", "one"), ("changed", "Old", "ENDED", "state")]
    assert log.announced == ["cancel", "changed"]
    assert first.session.state is SessionState.ENDED


async def test_open_turns_are_listed_with_their_session(sessions: Sessions) -> None:
    await sessions.create(USER, new("busy"))
    await sessions.create(USER, new("idle"))
    found: Mapping[str, Listed] = {
        each.session.id: each
        for each in (await sessions.list_page(USER, size=0, token="", open_only=False)).sessions
    }
    assert (found["busy"].open_turns, found["idle"].open_turns) == ((TURN,), ())
    assert (await sessions.resume(USER, "busy")).listed.open_turns == (TURN,)


async def test_what_the_device_acknowledged_is_answered_when_it_resumes(
    sessions: Sessions, database: Database
) -> None:
    await sessions.create(USER, new("one"))

    def acknowledge() -> Unit[None]:
        yield Statement("INSERT INTO acknowledgement VALUES ('one', 'd', 7), ('one', 'other', 9)")

    await database.write("one", acknowledge)
    assert (await sessions.resume(USER, "one")).acknowledged == 7


async def test_an_account_has_as_many_sessions_as_the_quota(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUOTA", 2)
    for each in ("one", "two", "two"):
        await sessions.create(USER, new(each))
    with pytest.raises(QuotaExceeded):
        await sessions.create(USER, new("three"))
