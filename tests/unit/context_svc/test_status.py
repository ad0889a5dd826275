"""The state of the mesh as this room sees it."""

from __future__ import annotations

import pytest

from chassis.auth import Revocations
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock
from context_svc.accounts import Accounts
from context_svc.guard import Guard
from context_svc.meta import open_mesh
from context_svc.passwords import Cost, Passwords
from context_svc.revocations import Feed
from context_svc.schema import MIGRATIONS
from context_svc.signing import AccessTokens, UserKeys
from context_svc.signins import SignIns
from context_svc.status import StatusBoard
from context_svc.throttle import Subjects
from context_svc.turn_rows import TurnState


def conversation() -> Unit[None]:
    yield Statement(
        "INSERT INTO account (id, email, email_key, display_name, password_hash, version, create_us, update_us)"
        " VALUES ('a', 'e', 'e', 'n', 'h', 1, 0, 0)"
    )
    yield Statement(
        "INSERT INTO session (id, account_id, title, title_source, state, settings, version, create_us,"
        " update_us, device_id, shape) VALUES ('s', 'a', '', 0, 1, :none, 1, 0, 0, 'd', '')",
        {"none": b""},
    )
    for number, state in enumerate((1, 1, 1, 2, 3, 5, 6, 7)):
        yield Statement(
            "INSERT INTO turn (id, session_id, account_id, state, message_id, answer_id, options,"
            " accepted_sequence, create_us) VALUES (:id, 's', 'a', :state, 'm', 'n', :none, 0, 0)",
            {"id": f"t{number}", "state": state, "none": b""},
        )


@pytest.fixture
async def board(database: Database, tmp_path_factory: pytest.TempPathFactory) -> StatusBoard:
    await database.migrate(MIGRATIONS)
    clock = FakeClock()
    keys = UserKeys.load_or_create(tmp_path_factory.mktemp("keys"))
    feed = Feed(clock, Revocations(clock, patience=None), keys.public)
    sign_ins = SignIns(database, clock, AccessTokens(keys, clock), feed, b"k")
    async with Passwords(Cost(memory_kib=64, passes=1)) as passwords:
        guard = Guard(database, clock, passwords, Subjects(b"k"))
        accounts = Accounts(database, clock, passwords, sign_ins, guard, open_registration=False)
    mesh = await open_mesh(database)
    return StatusBoard(
        database=database,
        clock=clock,
        accounts=accounts,
        feed=feed,
        mesh=mesh,
        version="1.2.3",
        open_streams=lambda: 3,
    )


async def test_an_empty_mesh_waits_for_its_first_account(board: StatusBoard) -> None:
    status = await board.read()
    assert status.setup_needed
    assert not status.healthy  # no other room holds the feed
    assert [(room.name, room.serving, room.version) for room in status.rooms] == [
        ("context_svc", True, "1.2.3")
    ]
    assert status.turns == {}


async def test_turns_that_are_not_over_are_counted_by_state(board: StatusBoard, database: Database) -> None:
    await database.write("a", conversation)
    status = await board.read()
    assert not status.setup_needed
    assert status.turns == {TurnState.QUEUED: 3, TurnState.RUNNING: 1, TurnState.WAITING: 1}
