"""The room put together: everything it opens, in order, and closes in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from chassis import certificates, engines, ids, telemetry
from chassis.auth import Revocations, RoomIdentity, room_issuer
from chassis.clock import Clock, SystemClock
from chassis.dial import open_channel
from chassis.health import Health
from chassis.keys import load_or_create_key
from chassis.serve import INTERNAL_MESSAGE, Server
from chassis.tasks import Tasks
from chassis.tokens import Signer
from context_svc import access, indexes
from context_svc.accounts import Accounts
from context_svc.api_tokens import ApiTokens
from context_svc.background_runs import BackgroundRuns
from context_svc.books import open_books, upkeep
from context_svc.branches import Branches
from context_svc.capabilities import Capabilities
from context_svc.claims import Claims, one_after_another
from context_svc.clearing import Clearing
from context_svc.context_watch import Watchers
from context_svc.conversations import Conversations
from context_svc.copies import bring_forward
from context_svc.device_list import DeviceList
from context_svc.doors import open_gate, operator_door, public_door
from context_svc.dossier import Dossier, open_dossier
from context_svc.executions import Executions
from context_svc.foundation import ROOM, Conversation, Foundation
from context_svc.grants import Grants
from context_svc.guard import Guard
from context_svc.guard import Limits as PasswordLimits
from context_svc.jobs import Jobs, Kind, Timer
from context_svc.journal import Journal
from context_svc.learning import Learning, schedule_learning
from context_svc.leaving import leaving
from context_svc.ledger import Ledger, Purses
from context_svc.memories import Memories, schedule_memories
from context_svc.messages import History
from context_svc.meta import open_mesh
from context_svc.paging import PageTokens
from context_svc.passwords import Cost, Passwords
from context_svc.peers import OrchestratorPeer
from context_svc.profiles import Profiles
from context_svc.program import program_version
from context_svc.readers import CloseReason, Readers
from context_svc.reindexing import Reindexing
from context_svc.replicas import follow_others, restarts
from context_svc.retention import Retention
from context_svc.revocations import Feed
from context_svc.rotation import Rotation
from context_svc.runs import Runs
from context_svc.safekeeping import safekeeping
from context_svc.schedule import Schedule
from context_svc.secret import ServerSecret
from context_svc.server_info import Introduction
from context_svc.servicer.agent import AgentServicer
from context_svc.servicer.chat import ChatServicer
from context_svc.servicer.identity import IdentityServicer
from context_svc.servicer.operator import OperatorServicer
from context_svc.servicer.session import SessionServicer
from context_svc.session_log import SessionLog
from context_svc.sessions import Sessions
from context_svc.settings import ContextSettings
from context_svc.setup_code import SetupCode
from context_svc.signing import AccessTokens, UserKeys
from context_svc.signins import SignIns
from context_svc.status import StatusBoard
from context_svc.summaries import Summaries, schedule_summary
from context_svc.throttle import Subjects
from context_svc.titles import Titles, schedule_title
from context_svc.turn_commands import TurnCommands
from context_svc.turns import Turns
from context_svc.users import Users
from context_svc.waiting import Expiry
from context_svc.wire.chat import ChatCodec, stored_text, words
from context_svc.wire.preferences import Choices, kept_us, memory_enabled
from context_svc.wire.session import is_private, stays_here
from context_svc.wire.turn import Budget, SummaryMarks
from context_svc.workshop import open_hosting, open_workshop

log = telemetry.logger(__name__)


@asynccontextmanager
async def conversation(foundation: Foundation) -> AsyncIterator[Conversation]:
    """Compose the log, the turns, their readers and their services; what it opens outlives the sockets."""
    settings, clock, database = foundation.settings, foundation.clock, foundation.database
    codec = ChatCodec(foundation.mesh.log_epoch)
    journal = Journal(codec)
    books = open_books(
        database,
        foundation.pages,
        ledger=_ledger(settings),
        index=indexes.of_engine(database.engine),
        text_of=stored_text,
    )
    turns = Turns(journal, codec, books.indexing)
    readers = Readers(database, clock, foundation.mesh.log_epoch, per_account=settings.streams_per_account)
    watchers = Watchers(per_account=settings.streams_per_account)
    claims = Claims(
        journal,
        ids.uuid(),
        one_after_another(schedule_title, schedule_learning, schedule_memories),
        books.ledger,
        books.indexing,
        schedule_summary,
    )
    async with (
        open_channel(
            settings.orchestrator,
            identity=foundation.room,
            callee="orchestrator",
            max_message=INTERNAL_MESSAGE,
            certificates=foundation.certificates,
        ) as channel,
        AsyncExitStack() as stack,
    ):
        grants = Grants(foundation.keys, clock)
        orchestrator = OrchestratorPeer(channel, _budget(settings), grants)
        dossier: Dossier  # put together below: it needs what needs this
        host = open_hosting(
            database,
            clock,
            claims=claims,
            codec=codec,
            publish=readers.publish,
            books=books,
            put=lambda *told: dossier.items.put(*told),
        )
        runs = Runs(
            database=database,
            claims=claims,
            orchestrator=orchestrator,
            codec=codec,
            waiting=turns.waiting,
            publish=readers.publish,
            clock=clock,
            host=host,
        )
        schedule = Schedule(
            database=database,
            claims=claims,
            runs=runs,
            clock=clock,
            running_per_account=settings.running_turns_per_account,
        )
        conversations = Conversations(
            database=database,
            turns=turns,
            readers=readers,
            schedule=schedule,
            runs=runs,
            clock=clock,
            log_epoch=foundation.mesh.log_epoch,
        )

        def forget_session(session: str) -> None:
            readers.close_session(session)
            watchers.close_scope(session)

        session_log = SessionLog(
            journal=journal,
            turns=turns,
            codec=codec,
            publish=readers.publish,
            stop=runs.stop,
            close=forget_session,
            clock=clock,
        )
        background = BackgroundRuns(
            database=database,
            clock=clock,
            orchestrator=orchestrator,
            codec=codec,
            ledger=books.ledger,
            busy=runs.busy,
        )
        summaries = Summaries(
            database=database,
            clock=clock,
            runs=background,
            marks=SummaryMarks(),
            idle=lambda: not len(runs),
        )
        commands = TurnCommands(
            database=database,
            entrance=conversations.entrance,
            branches=Branches(journal, turns, codec, books.indexing),
            executions=Executions(journal, turns, codec),
            clearing=Clearing(journal, codec),
            runs=runs,
            publish=readers.publish,
            clock=clock,
        )
        history = History(database, foundation.pages)
        chat = ChatServicer(conversations, history, commands, books.receipts, books.search)
        titles = Titles(
            database=database,
            clock=clock,
            runs=background,
            journal=session_log,
            idle=lambda: not len(runs),
            is_private=is_private,
        )
        retention = Retention(
            database=database,
            clock=clock,
            journal=journal,
            codec=codec,
            publish=readers.publish,
            kept_us=kept_us,
        )
        tidying = upkeep(books, database, clock, session_log)
        foundation.tasks.spawn("index again", Reindexing(database, books.indexing).run())
        await retention.prepare()
        await tidying.prepare()
        departures = await stack.enter_async_context(
            leaving(
                database=database,
                clock=clock,
                settings=settings,
                mesh=foundation.mesh,
                secret=foundation.secret,
                room=foundation.room,
                certificates=foundation.certificates,
                grants=grants,
                books=books,
                turns=session_log,
                feed=foundation.feed,
            )
        )
        expiry = Expiry(
            database=database,
            clock=clock,
            waiting=turns.waiting,
            publish=readers.publish,
            wake=schedule.wake,
        )
        dossier = open_dossier(
            database,
            clock,
            foundation.pages,
            foundation.mesh.log_epoch,
            log=session_log,
            watchers=watchers,
            catalogue=orchestrator,
        )
        memories = Memories(
            database=database,
            clock=clock,
            runs=background,
            put=dossier.items.put,
            idle=lambda: not len(runs),
            wanted=memory_enabled,
            stays_here=stays_here,
            words=words,
        )
        learning = Learning(database, Choices(), is_private)
        work = open_workshop(
            database,
            clock,
            foundation.pages,
            journal=journal,
            codec=codec,
            turns=turns,
            publish=readers.publish,
            wake=schedule.wake,
            stop=runs.stop,
        )
        kinds: tuple[Kind, ...] = (
            titles,
            summaries,
            retention,
            tidying,
            learning,
            memories,
            expiry,
            *departures.kinds,
            *work.kinds,
        )
        timer = Timer(database=database, clock=clock, owner=claims.owner, kinds=kinds)
        jobs = Jobs(database, clock, foundation.pages, timer.stop, work.cancelled)
        agent = AgentServicer(Capabilities(orchestrator.actions, foundation.pages), jobs, commands)
        foundation.tasks.spawn("cut revoked streams", _cut_revoked(foundation.feed, readers, watchers))
        foundation.tasks.spawn("expire context", dossier.expire())
        foundation.tasks.spawn(
            "follow other processes",
            follow_others(
                database,
                readers,
                schedule,
                foundation.feed,
                clock,
                restarts(foundation.mesh, foundation.restart),
            ),
        )

        async def drain() -> None:
            await asyncio.gather(schedule.drain(settings.drain_seconds), clock.sleep(settings.linger_seconds))
            readers.close_all(CloseReason.DRAINING)
            watchers.close_all(CloseReason.DRAINING)

        async with readers.watched(), schedule.running(), timer.running():
            yield Conversation(
                journal=session_log,
                turns=session_log,
                leaving=departures,
                open_streams=lambda: len(readers) + len(watchers),
                services=(
                    chat.register,
                    agent.register,
                    dossier.servicer.register,
                    work.servicer.register,
                ),
                obey=dossier.items.obey,
                settle=dossier.preferences.settle,
                offers=dossier.preferences.offers,
                drain=drain,
                in_band=frozenset(
                    f"/assistant.chat.v1.ChatService/{name}" for name in ("Chat", "SendMessageBatch")
                ),
            )


async def _cut_revoked(feed: Feed, *streams: Readers | Watchers) -> None:
    """End the open streams of sign-ins that end; all of them, should this task not keep up."""
    async for change in feed.changes():
        for each in streams:
            each.close_sign_ins({ended.sign_in for ended in change.sign_ins}, CloseReason.REVOKED)
    for each in streams:
        each.close_all(CloseReason.DRAINING)


def _ledger(settings: ContextSettings) -> Ledger:
    return Ledger(
        day_limit=settings.daily_cost_micro_usd or None, run_limit=settings.turn_cost_micro_usd or None
    )


def _budget(settings: ContextSettings) -> Budget:
    return Budget(
        steps=settings.turn_steps,
        calls=settings.turn_calls,
        tool_time=timedelta(seconds=settings.turn_tool_seconds),
        tokens=settings.turn_tokens,
        time=timedelta(seconds=settings.turn_seconds),
    )


@asynccontextmanager
async def open_app(
    settings: ContextSettings, *, clock: Clock | None = None, restart: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Server, Server]]:
    """Run the room: its own socket and the operator's. `restart` is called when another state was put in place.

    Raises chassis.keys.KeyRefused, DatabaseInUse, StoreUnavailable, MigrationRefused and, for an address that
    cannot be bound, RuntimeError.
    """
    async with AsyncExitStack() as stack:
        foundation = await _foundation(settings, clock or SystemClock(), restart, stack)
        talk = await stack.enter_async_context(conversation(foundation))
        yield await _identity(foundation, talk, stack)


async def _foundation(
    settings: ContextSettings, clock: Clock, restart: Callable[[], None], stack: AsyncExitStack
) -> Foundation:
    for folder in (settings.data_dir, settings.keys_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = UserKeys(settings.keys_dir / "users", clock)
    secret = ServerSecret.load_or_create(settings.keys_dir / "context.secret")
    revocations = Revocations(clock, patience=None)
    opening = engines.connect(settings.database_url, schema=settings.database_schema, clock=clock)
    database = await stack.enter_async_context(opening)
    await bring_forward(database, settings.backups, clock, is_private)
    feed = Feed(clock, revocations, keys.announced)
    await feed.load(database)
    key_set = settings.keys_dir / "users.jwks"
    rotation = Rotation(database=database, clock=clock, keys=keys, feed=feed, key_set=key_set)
    await rotation.rotate()
    keys.publish(key_set)
    tasks = await stack.enter_async_context(Tasks())
    tasks.spawn("rotate the signing keys", rotation.run())
    return Foundation(
        settings=settings,
        clock=clock,
        database=database,
        tasks=tasks,
        mesh=await open_mesh(database),
        secret=secret,
        keys=keys,
        revocations=revocations,
        feed=feed,
        pages=PageTokens(secret.key("page tokens")),
        room=_room_identity(settings.keys_dir, clock),
        certificates=certificates.read(settings.tls_dir, ROOM),
        health=Health(access.SERVICES),
        restart=restart,
    )


async def _identity(
    foundation: Foundation, talk: Conversation, stack: AsyncExitStack
) -> tuple[Server, Server]:
    """The half that owns accounts and sessions, and both sockets."""
    settings, clock, database, feed = (
        foundation.settings,
        foundation.clock,
        foundation.database,
        foundation.feed,
    )
    cost = Cost(memory_kib=settings.hashing_memory_kib, passes=settings.hashing_passes)
    passwords = await stack.enter_async_context(Passwords(cost, threads=settings.hashing_threads))
    access_tokens = AccessTokens(foundation.keys, clock)
    sign_ins = SignIns(database, clock, access_tokens, feed, foundation.secret.key("refresh tokens"))
    guard = _guard(foundation, passwords)
    accounts = Accounts(
        database, clock, passwords, sign_ins, guard, open_registration=settings.open_registration
    )
    setup_code = SetupCode(database, clock, foundation.secret.key("set-up code"))
    await setup_code.prepare()
    gate = open_gate(foundation)
    identity = IdentityServicer(
        accounts=accounts,
        sign_ins=sign_ins,
        api_tokens=ApiTokens(database, clock, foundation.pages, foundation.keys, feed),
        devices=DeviceList(database, clock, foundation.pages, feed, talk.obey),
        profiles=Profiles(database, clock, passwords, guard, feed),
        leaving=talk.leaving,
        guard=guard,
        introduction=_introduction(foundation, accounts),
        keys=foundation.keys,
        feed=feed,
        gate=gate,
        clock=clock,
        purses=Purses(database, clock, _ledger(settings)),
    )
    listing = Sessions(
        database, clock, foundation.pages, talk.journal, talk.turns, talk.settle, is_private, talk.offers
    )
    board = StatusBoard(
        database=database,
        clock=clock,
        accounts=accounts,
        feed=feed,
        mesh=foundation.mesh,
        version=program_version(),
        open_streams=talk.open_streams,
    )
    listed = SessionServicer(listing, foundation.mesh)
    services = (identity.register, listed.register, *talk.services)
    public = await stack.enter_async_context(public_door(foundation, gate, talk, services))
    users = Users(database, clock, foundation.pages, passwords, feed, foundation.secret.key("operator"))
    backups = await stack.enter_async_context(safekeeping(foundation))
    operator = OperatorServicer(setup_code, board, users, talk.leaving.erasures, backups)
    return public, await stack.enter_async_context(operator_door(foundation, gate, operator))


def _guard(foundation: Foundation, passwords: Passwords) -> Guard:
    settings = foundation.settings
    return Guard(
        foundation.database,
        foundation.clock,
        passwords,
        Subjects(foundation.secret.key("throttle")),
        PasswordLimits(login_failures=settings.login_failures, registrations=settings.registrations_per_hour),
    )


def _room_identity(keys_dir: Path, clock: Clock) -> RoomIdentity:
    issuer = room_issuer(ROOM)
    signer = Signer(load_or_create_key(keys_dir / f"{ROOM}.key"), issuer, issuer)
    return RoomIdentity(ROOM, signer, clock)


def _introduction(foundation: Foundation, accounts: Accounts) -> Introduction:
    return Introduction(
        mesh=foundation.mesh,
        name=foundation.settings.server_name,
        version=program_version(),
        clock=foundation.clock,
        accounts=accounts,
        open_registration=foundation.settings.open_registration,
    )
