"""The conversation half of context_svc on a real socket, with an orchestrator that the test plays by hand."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import grpc

from assistant.agent.v1 import agent_pb2, agent_pb2_grpc
from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.reminder.v1 import reminder_pb2, reminder_pb2_grpc
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2, turn_pb2_grpc
from chassis import ids
from chassis.access import Audience, Policy
from chassis.boundary import Boundary
from chassis.call import User
from chassis.clock import Clock, SystemClock
from chassis.database import Database, Statement, Unit
from chassis.dial import streaming
from chassis.serve import Register
from chassis.testing import Everyone, serve_for_test
from context_svc import indexes
from context_svc.background_runs import BackgroundRuns
from context_svc.books import Books, open_books, upkeep
from context_svc.branches import Branches
from context_svc.capabilities import Capabilities
from context_svc.claims import Claims, one_after_another
from context_svc.clearing import Clearing
from context_svc.context_items import ContextItems
from context_svc.context_watch import Watchers
from context_svc.conversations import Conversations
from context_svc.executions import Executions
from context_svc.grants import Grants
from context_svc.jobs import Jobs, Kind, Timer
from context_svc.journal import Journal
from context_svc.learning import Learning, schedule_learning
from context_svc.ledger import Ledger
from context_svc.memories import Memories, schedule_memories
from context_svc.messages import History
from context_svc.paging import PageTokens
from context_svc.peers import OrchestratorPeer
from context_svc.preferences import Preferences
from context_svc.readers import Readers
from context_svc.retention import Retention
from context_svc.runs import Runs
from context_svc.schedule import Schedule
from context_svc.schema import MIGRATIONS
from context_svc.servicer.agent import AgentServicer
from context_svc.servicer.chat import ChatServicer
from context_svc.session_log import SessionLog
from context_svc.sessions import Sessions
from context_svc.signing import UserKeys
from context_svc.summaries import Summaries, schedule_summary
from context_svc.titles import Titles, schedule_title
from context_svc.turn_commands import TurnCommands
from context_svc.turns import Turns
from context_svc.waiting import Expiry, Waiting
from context_svc.wire.chat import ChatCodec, stored_text, words
from context_svc.wire.items import ItemAnswers
from context_svc.wire.preferences import Choices, PreferenceWords, kept_us, memory_enabled
from context_svc.wire.session import is_private, stays_here
from context_svc.wire.turn import Budget, SummaryMarks
from context_svc.workshop import open_hosting, open_workshop

ACCOUNT = "account-1"
BUDGET = Budget(steps=8, calls=16, tool_time=timedelta(seconds=60), tokens=200_000, time=timedelta(minutes=3))
_USER = Policy(audience=Audience.USER, deadline=None)
_CHAT = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]
_AGENT = agent_pb2.DESCRIPTOR.services_by_name["AgentService"]
_REMINDER = reminder_pb2.DESCRIPTOR.services_by_name["ReminderService"]
POLICIES = {
    f"/{service.full_name}/{method.name}": _USER
    for service in (_CHAT, _AGENT, _REMINDER)
    for method in service.methods
}
_TURN = turn_pb2.DESCRIPTOR.services_by_name["TurnService"]
TURN_POLICIES = {f"/{_TURN.full_name}/{method.name}": _USER for method in _TURN.methods}

Turn = turn_pb2.RunTurnResponse
Play = Callable[["Stage"], AsyncIterator[turn_pb2.RunTurnResponse]]


@dataclass(kw_only=True)
class Stage:
    """One turn, as the played orchestrator sees it."""

    start: turn_pb2.StartTurn
    cancelled: asyncio.Event
    renewed: asyncio.Queue[turn_pb2.Grants]
    recorded: asyncio.Event

    def event(self, **event: object) -> turn_pb2.RunTurnResponse:
        return Turn(event=chat_pb2.ChatEvent(turn_id=self.start.turn_id, **event))  # type: ignore[arg-type]

    def started(self) -> turn_pb2.RunTurnResponse:
        return self.event(
            turn_started=chat_pb2.TurnStarted(
                attempt=self.start.attempt,
                answer_id=self.start.answer_id,
                model=chat_pb2.ModelChoice(model="played"),
            )
        )

    def says(self, text: str) -> turn_pb2.RunTurnResponse:
        return self.event(text_delta=chat_pb2.TextDelta(text=text))

    def step(self, **usage: int) -> turn_pb2.RunTurnResponse:
        """The receipt of a model step."""
        step = chat_pb2.StepReceipt(model="played", usage=message_pb2.Usage(**usage))  # type: ignore[arg-type]
        return Turn(receipt=turn_pb2.ReceiptEntry(step=step))

    def finished(self, text: str, **usage: int) -> turn_pb2.RunTurnResponse:
        message = message_pb2.Message(
            id=self.start.answer_id,
            turn_id=self.start.turn_id,
            role=message_pb2.ROLE_ASSISTANT,
            parts=[message_pb2.Part(text=text)],
            model="played",
        )
        used = message_pb2.Usage(**(usage or {"input_tokens": 3, "output_tokens": 2}))  # type: ignore[arg-type]
        return self.event(turn_finished=chat_pb2.TurnFinished(message=message, usage=used))

    def stopped(self, text: str) -> turn_pb2.RunTurnResponse:
        message = message_pb2.Message(parts=[message_pb2.Part(text=text)], model="played")
        return self.event(turn_cancelled=chat_pb2.TurnCancelled(partial=message))

    def failed(self, reason: error_pb2.ErrorReason.ValueType) -> turn_pb2.RunTurnResponse:
        return self.event(turn_failed=chat_pb2.TurnFailed(reason=reason, message="It broke.", retryable=True))


async def answers_at_once(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    """Say the person's words back, in two pieces; of a turn without words, "nothing"."""
    asked = stage.start.material.messages
    words = asked[-1].parts[0].text if asked else "nothing"
    yield stage.started()
    yield stage.says("you said: ")
    yield stage.says(words)
    yield stage.finished(f"you said: {words}")


class PlayedOrchestrator(turn_pb2_grpc.TurnServiceServicer):
    """A TurnService whose turns a test plays; counts them."""

    def __init__(self) -> None:
        self.play: Play = answers_at_once
        self.starts: list[turn_pb2.StartTurn] = []

    async def RunTurn(
        self, request_iterator: AsyncIterator[turn_pb2.RunTurnRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        first = await anext(request_iterator)
        self.starts.append(first.start)
        stage = Stage(
            start=first.start, cancelled=asyncio.Event(), recorded=asyncio.Event(), renewed=asyncio.Queue()
        )

        async def hear() -> None:
            async for request in request_iterator:
                match request.WhichOneof("frame"):
                    case "cancel":
                        stage.cancelled.set()
                    case "effect_recorded":
                        stage.recorded.set()
                    case "grants":
                        stage.renewed.put_nowait(request.grants)

        hearing = asyncio.create_task(hear())
        try:
            async for response in self.play(stage):
                yield response
        finally:
            hearing.cancel()

    async def ListActions(
        self, request: turn_pb2.ListActionsRequest, context: grpc.aio.ServicerContext
    ) -> turn_pb2.ListActionsResponse:
        clock = agent_pb2.Action(name="current_time", parameters_json_schema='{"type":"object"}')
        return turn_pb2.ListActionsResponse(actions=[clock])


@dataclass(kw_only=True)
class Room:
    """A running room, and a client on its socket."""

    stub: chat_pb2_grpc.ChatServiceStub
    agent: agent_pb2_grpc.AgentServiceStub
    reminders: reminder_pb2_grpc.ReminderServiceStub
    watchers: Watchers
    orchestrator: PlayedOrchestrator
    readers: Readers
    schedule: Schedule
    runs: Runs
    database: Database
    claims: Claims
    sessions: Sessions
    jobs: Jobs
    books: Books
    log_of_sessions: SessionLog
    waiting: Waiting
    items: ContextItems
    preferences: Preferences
    boundary: Boundary
    services: tuple[Register, ...]

    async def session(self, account: str = ACCOUNT) -> str:
        session_id = ids.uuid()
        await self.database.write(session_id, lambda: _new_session(session_id, account))
        return session_id

    def message(self, session_id: str, text: str, **fields: object) -> chat_pb2.NewMessage:
        return chat_pb2.NewMessage(
            session_id=session_id,
            client_message_id=fields.pop("client_message_id", ids.uuid()),  # type: ignore[arg-type]
            parts=[message_pb2.Part(text=text)],
            **fields,  # type: ignore[arg-type]
        )

    async def say(self, session_id: str, text: str, **fields: object) -> list[chat_pb2.ChatEvent]:
        """Send a message and follow its turn to the end."""
        request = chat_pb2.SendMessageRequest(message=self.message(session_id, text, **fields), follow=True)
        return [frame.event async for frame in self.stub.SendMessage(request, timeout=30)]

    async def until(
        self, session_id: str, done: Callable[[list[chat_pb2.ChatEvent]], bool]
    ) -> list[chat_pb2.ChatEvent]:
        """Follow a session's log from its beginning until `done` holds; at most 30 seconds."""
        request = chat_pb2.SubscribeEventsRequest(cursors=[session_pb2.SessionCursor(session_id=session_id)])
        events: list[chat_pb2.ChatEvent] = []
        async with streaming(self.stub.SubscribeEvents(request, timeout=30)) as call:
            async for frame in call:
                if frame.WhichOneof("frame") == "event":
                    events.append(frame.event)
                    if done(events):
                        break
        return events

    async def log(self, session_id: str) -> list[chat_pb2.ChatEvent]:
        request = chat_pb2.ListEventsRequest(session_id=session_id, page_size=1000)
        return list((await self.stub.ListEvents(request, timeout=30)).events)


def kinds(events: list[chat_pb2.ChatEvent]) -> list[str]:
    return [event.WhichOneof("event") or "" for event in events]


@asynccontextmanager
async def room(
    database: Database,
    orchestrator: PlayedOrchestrator | None = None,
    owner: str | None = None,
    *,
    background: bool = False,
    clock: Clock | None = None,
    ledger: Ledger | None = None,
    running_per_account: int = 4,
    watched: bool = False,
    address: str = "",
) -> AsyncIterator[Room]:
    """The conversation on `database`, serving one account on a unix socket; its jobs run with `background`."""
    orchestrator = orchestrator or PlayedOrchestrator()
    clock, codec = clock or SystemClock(), ChatCodec("epoch-1")
    await database.migrate(MIGRATIONS)
    await database.write("account", lambda: _accounts())
    async with serve_for_test(
        lambda server: turn_pb2_grpc.add_TurnServiceServicer_to_server(orchestrator, server),
        policies=TURN_POLICIES,
        authenticator=Everyone(caller()),
    ) as turns_channel:
        journal = Journal(codec)
        books = open_books(
            database,
            PageTokens(b"k" * 32),
            ledger=ledger or Ledger(),
            index=indexes.of_engine(database.engine),
            text_of=stored_text,
        )
        afterwards = one_after_another(schedule_title, schedule_learning, schedule_memories)
        claims = Claims(
            journal, owner or ids.uuid(), afterwards, books.ledger, books.indexing, schedule_summary
        )
        turns = Turns(journal, codec, books.indexing)
        readers = Readers(database, clock, "epoch-1")
        peer = OrchestratorPeer(turns_channel, BUDGET, Grants(grant_keys(), clock))
        watchers = Watchers()
        items: ContextItems
        host = open_hosting(
            database,
            clock,
            claims=claims,
            codec=codec,
            publish=readers.publish,
            books=books,
            put=lambda *told: items.put(*told),
        )
        runs = Runs(
            database=database,
            claims=claims,
            orchestrator=peer,
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
            running_per_account=running_per_account,
        )
        conversations = Conversations(
            database=database,
            turns=turns,
            readers=readers,
            schedule=schedule,
            runs=runs,
            clock=clock,
            log_epoch="epoch-1",
        )
        log = SessionLog(
            journal=journal,
            turns=turns,
            codec=codec,
            publish=readers.publish,
            stop=runs.stop,
            close=readers.close_session,
            clock=clock,
        )
        asking = BackgroundRuns(
            database=database,
            clock=clock,
            orchestrator=peer,
            codec=codec,
            ledger=books.ledger,
            busy=runs.busy,
        )
        summaries = Summaries(
            database=database,
            clock=clock,
            runs=asking,
            marks=SummaryMarks(),
            idle=lambda: not len(runs),
        )
        titles = Titles(
            database=database,
            clock=clock,
            runs=asking,
            journal=log,
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
        await retention.prepare()
        tidying = upkeep(books, database, clock, log)
        await tidying.prepare()
        expiry = Expiry(
            database=database,
            clock=clock,
            waiting=turns.waiting,
            publish=readers.publish,
            wake=schedule.wake,
        )
        items = ContextItems(
            database=database, clock=clock, log=log, bell=watchers, answers=ItemAnswers("epoch-1")
        )
        memories = Memories(
            database=database,
            clock=clock,
            runs=asking,
            put=items.put,
            idle=lambda: not len(runs),
            wanted=memory_enabled,
            stays_here=stays_here,
            words=words,
        )
        learning = Learning(database, Choices(), is_private)
        work = open_workshop(
            database,
            clock,
            PageTokens(b"k" * 32),
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
            *work.kinds,
        )
        timer = Timer(database=database, clock=clock, owner=claims.owner, kinds=kinds)
        preferences = Preferences(database, clock, PreferenceWords(), items.keep_locations, peer)
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
        history = History(database, PageTokens(b"k" * 32))
        servicer = ChatServicer(conversations, history, commands, books.receipts, books.search)
        jobs = Jobs(database, clock, PageTokens(b"k" * 32), timer.stop, work.cancelled)
        agent = AgentServicer(Capabilities(peer.actions, PageTokens(b"k" * 32)), jobs, commands)
        boundary = Boundary(
            policies=POLICIES,
            authenticator=Everyone(caller()),
            domain="assistant.mesh",
            in_band=frozenset(f"/{_CHAT.full_name}/{name}" for name in ("Chat", "SendMessageBatch")),
        )
        async with (
            schedule.running(),
            readers.watched() if watched else nullcontext(),
            timer.running() if background else nullcontext(),
            serve_for_test(
                servicer.register,
                agent.register,
                work.servicer.register,
                policies=POLICIES,
                boundary=boundary,
                address=address,
            ) as channel,
        ):
            yield Room(
                boundary=boundary,
                services=(servicer.register, agent.register),
                stub=chat_pb2_grpc.ChatServiceStub(channel),
                agent=agent_pb2_grpc.AgentServiceStub(channel),
                reminders=reminder_pb2_grpc.ReminderServiceStub(channel),
                watchers=watchers,
                orchestrator=orchestrator,
                readers=readers,
                schedule=schedule,
                runs=runs,
                database=database,
                claims=claims,
                sessions=Sessions(database, clock, PageTokens(b"k" * 32), log, log),
                books=books,
                log_of_sessions=log,
                items=items,
                preferences=preferences,
                jobs=jobs,
                waiting=turns.waiting,
            )


@cache
def grant_keys() -> UserKeys:
    """Keys of this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        return UserKeys.load_or_create(Path(folder))


def caller() -> User:
    return User(account=ACCOUNT, sign_in="device-1", scopes=frozenset(), expires_at_us=2**60)


def _accounts() -> Unit[None]:
    for account in (ACCOUNT, "account-2"):
        yield Statement(
            "INSERT INTO account (id, email, email_key, display_name, password_hash, version, create_us, update_us)"
            " VALUES (:id, :id, :id, :id, '', 1, 0, 0) ON CONFLICT (id) DO NOTHING",
            {"id": account},
        )


def _new_session(session_id: str, account: str) -> Unit[None]:
    yield Statement(
        "INSERT INTO session (id, account_id, title, title_source, state, settings, version, create_us,"
        " update_us, device_id, shape) VALUES (:id, :account, '', 0, 1, :settings, 1, 0, 0, 'device-1', '')",
        {"id": session_id, "account": account, "settings": b""},
    )
