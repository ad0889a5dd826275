"""httpx over aiohttp's connections, against a server that says exactly the given bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from chassis.testing import SOON, eventually
from llm_svc.transport import KEPT, MANY, Transport

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def served(folder: Path, say: Say, *, idle_seconds: float = 60) -> AsyncIterator[httpx.AsyncClient]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await asked(reader):
                await say(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(talk, folder / "s")
    transport = Transport(tls=None, uds=str(folder / "s"), idle_seconds=idle_seconds)
    async with (
        server,
        httpx.AsyncClient(transport=transport, base_url="http://it/", timeout=SOON.total_seconds()) as here,
    ):
        yield here


async def asked(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))


def saying(*pieces: bytes, close: bool = False) -> Say:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(pieces)
        await writer.drain()
        if close:
            writer.close()

    return say


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize(
    ("said", "error"),
    [
        ((), httpx.RemoteProtocolError),
        ((b"220 mail.example.org ESMTP\r\n",), httpx.RemoteProtocolError),
        ((HEAD + b"content-length: 9\r\n\r\nfour",), httpx.RemoteProtocolError),
        ((CHUNKED, chunk(b"one"), b"5\r\ntw"), httpx.RemoteProtocolError),
        ((CHUNKED, b"what\r\n"), httpx.RemoteProtocolError),
    ],
    ids=["nothing", "another protocol", "cut", "cut in a chunk", "no chunk"],
)
async def test_a_broken_answer_is_httpxs_own_error(
    tmp_path: Path, said: tuple[bytes, ...], error: type[httpx.HTTPError]
) -> None:
    async with served(tmp_path, saying(*said, close=True)) as client:
        with pytest.raises(error) as caught:
            await client.post("", content=b"{}")
    assert type(caught.value) is error
    assert caught.value.request.method == "POST"


@pytest.mark.requirement("LLM-5")
async def test_silence_and_a_server_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    async with served(tmp_path, saying(CHUNKED, chunk(b"one"))) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("", content=b"{}", timeout=httpx.Timeout(1, read=0.05))
    async with httpx.AsyncClient(transport=Transport(tls=None, uds=None, idle_seconds=1)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post("http://127.0.0.1:1/", content=b"{}")
    gone = Transport(tls=None, uds=str(tmp_path / "nothing"), idle_seconds=1)
    async with httpx.AsyncClient(transport=gone) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post("http://it/", content=b"{}")


@pytest.mark.requirement("LLM-6")
async def test_an_answer_closed_early_closes_its_connection_and_a_whole_one_keeps_it(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one"))
        assert await reader.read() == b""
        closed.set()

    async with served(tmp_path, endless) as client, asyncio.timeout(SOON.total_seconds()):
        async with client.stream("POST", "", content=b"{}") as answer:
            assert await anext(answer.aiter_bytes()) == b"one"
        await closed.wait()

    (tmp_path / "s").unlink()
    async with served(tmp_path, saying(CHUNKED, chunk(b"one"), b"0\r\n\r\n")) as client:
        kept: list[list[bool]] = []
        for _ in range(3):
            kept.append([])
            answer = await client.post("", content=b"{}", extensions={KEPT: kept[-1]})
            assert answer.content == b"one"
        assert [len(each) for each in kept] == [0, 1, 1]


@pytest.mark.requirement("LLM-5")
async def test_a_crowd_of_answers_is_gathered_whole_and_in_order_and_its_first_words_are_not(
    tmp_path: Path,
) -> None:
    words = [b"%d " % number for number in range(60)]
    go_on = asyncio.Event()

    async def one_by_one(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(words[0]))
        await go_on.wait()
        for word in words[1:]:
            writer.write(chunk(word))
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")

    async def read(client: httpx.AsyncClient, taken: list[bytes]) -> None:
        async with client.stream("POST", "", content=b"{}") as answer:
            async for piece in answer.aiter_raw():
                taken.append(piece)

    async with served(tmp_path, one_by_one) as client, asyncio.timeout(2 * SOON.total_seconds()):
        crowd: list[list[bytes]] = [[] for _ in range(2 * MANY)]
        reading = asyncio.gather(*(read(client, taken) for taken in crowd))
        await eventually(lambda: all(taken == words[:1] for taken in crowd))
        go_on.set()
        await reading
        assert {b"".join(taken) for taken in crowd} == {b"".join(words)}
        assert sum(map(len, crowd)) < len(words) * len(crowd) / 2
        assert client._transport.crowded is False  # type: ignore[attr-defined]  # all were counted out again
