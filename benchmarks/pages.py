"""What a page of a long history costs, and a search in it, through the room's own service on a unix socket."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.message.v1 import message_pb2
from benchmarks.rows import MS, Row, percentile
from chassis import engines
from chassis.access import Audience, Policy
from chassis.call import User
from chassis.database import Database, Statement, Unit
from chassis.tasks import Tasks
from chassis.testing import Everyone, serve_for_test
from context_svc import indexes
from context_svc.books import open_books
from context_svc.ledger import Ledger
from context_svc.messages import History
from context_svc.paging import PageTokens
from context_svc.schema import MIGRATIONS
from context_svc.search import Indexing
from context_svc.servicer.chat import ChatServicer
from context_svc.turn_rows import store_message
from context_svc.wire.chat import stored_text

ACCOUNT, SESSION = "a", "s"
_WORDS = ("plan", "tea", "train", "garden", "letter", "music", "winter", "bread", "river", "lamp", "paper")
_AT_ONCE = 500
FINDABLE = 20_000  # of the messages, the newest: to index them all takes longer than to measure


async def history_pages(messages: int = 100_000, pages: int = 400) -> list[Row]:
    """Pages both ways through a long session that is written to meanwhile, and searches in it."""
    async with _served(messages) as (stub, database), Tasks() as tasks:
        writing = tasks.spawn("write", _write_on(database, messages))
        newest = await _paged(stub, chat_pb2.LIST_ORDER_NEWEST_FIRST, pages)
        oldest = await _paged(stub, chat_pb2.LIST_ORDER_OLDEST_FIRST, pages)
        searches = [await _timed(_search(stub, f"{one} {other}")) for one in _WORDS for other in _WORDS[:5]]
        writing.cancel()
    page = percentile([*newest, *oldest], 0.95) * MS
    return [
        Row(
            name=f"page of 50 in a session of {messages:,} messages, p95",
            value=page,
            unit="ms",
            target="≤ 50 ms",
            met=page <= 50,
            detail=f"p50 {statistics.median([*newest, *oldest]) * MS:.1f} ms, both ways, written to meanwhile",
        ),
        Row(
            name=f"search of two frequent words in {FINDABLE:,} messages, p95",
            value=percentile(searches, 0.95) * MS,
            unit="ms",
            target="",
            met=None,
            detail=f"p50 {statistics.median(searches) * MS:.1f} ms",
        ),
    ]


@asynccontextmanager
async def _served(messages: int) -> AsyncIterator[tuple[chat_pb2_grpc.ChatServiceStub, Database]]:
    user = User(account=ACCOUNT, sign_in="i", scopes=frozenset(), expires_at_us=2**60)
    service = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]
    policy = Policy(audience=Audience.USER, deadline=None)
    policies = {f"/{service.full_name}/{method.name}": policy for method in service.methods}
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        async with engines.connect(f"sqlite://{folder}/t.db", schema="") as database:
            await database.migrate(MIGRATIONS)
            pages = PageTokens(b"k" * 32)
            index = indexes.of_engine("sqlite")
            books = open_books(database, pages, ledger=Ledger(), index=index, text_of=stored_text)
            await database.write(SESSION, _session)
            for begin in range(0, messages, _AT_ONCE):
                await database.write(SESSION, lambda begin=begin: _some(begin, _AT_ONCE, books.indexing))  # type: ignore[misc]
            nobody = cast(Any, None)  # what writes is not measured here
            servicer = ChatServicer(nobody, History(database, pages), nobody, books.receipts, books.search)
            async with serve_for_test(
                servicer.register, policies=policies, authenticator=Everyone(user)
            ) as channel:
                yield chat_pb2_grpc.ChatServiceStub(channel), database


async def _paged(
    stub: chat_pb2_grpc.ChatServiceStub, order: chat_pb2.ListOrder.ValueType, pages: int
) -> list[float]:
    token, taken = "", []
    for _ in range(pages):
        began = time.perf_counter()
        page = await stub.ListMessages(
            chat_pb2.ListMessagesRequest(session_id=SESSION, page_size=50, page_token=token, order=order)
        )
        taken.append(time.perf_counter() - began)
        token = page.next_page_token
    return taken


def _search(stub: chat_pb2_grpc.ChatServiceStub, query: str) -> Callable[[], Awaitable[object]]:
    return lambda: stub.SearchMessages(chat_pb2.SearchMessagesRequest(query=query))


async def _timed(act: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began


async def _write_on(database: Database, number: int) -> None:
    while True:
        await database.write(SESSION, lambda number=number: _some(number, 1, None))  # type: ignore[misc]
        number += 1
        await asyncio.sleep(0.005)


def _session() -> Unit[None]:
    yield Statement(
        "INSERT INTO account (id, email, email_key, display_name, password_hash, version, create_us, update_us)"
        " VALUES (:id, :id, :id, :id, '', 1, 0, 0)",
        {"id": ACCOUNT},
    )
    yield Statement(
        "INSERT INTO session (id, account_id, title, title_source, state, settings, version, create_us, update_us,"
        " device_id, shape) VALUES (:id, :account, '', 0, 1, :none, 1, 0, 0, 'd', '')",
        {"id": SESSION, "account": ACCOUNT, "none": b""},
    )


def _some(begin: int, count: int, indexing: Indexing | None) -> Unit[None]:
    for number in range(begin, begin + count):
        said = " ".join(_WORDS[(number * step) % len(_WORDS)] for step in range(1, 12))
        message = message_pb2.Message(
            id=f"m{number:08}", session_id=SESSION, parts=[message_pb2.Part(text=f"{number} {said}")]
        )
        yield from store_message(
            SESSION,
            message_id=message.id,
            turn_id=f"t{number}",
            parent_id="",
            depth=number,
            role=1,
            sequence=number + 1,
            data=message.SerializeToString(),
            preview="",
            now_us=number,
            indexing=indexing,
        )
