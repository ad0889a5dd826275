"""Reading one page of the web."""

from __future__ import annotations

import asyncio
import json

import pytest

from chassis.testing import SOON
from orchestrator_svc.tools.search.page import PART
from orchestrator_svc.tools.tool import Output, ToolFailure
from tests.unit.orchestrator_svc.kit import kit, ran
from tests.unit.orchestrator_svc.outside import Answer

pytestmark = pytest.mark.requirement("TOOL-1")
NEWS = '{"url": "https://example.org/news"}'
MOSS = '{"url": "https://example.org/moss"}'


async def test_a_page_is_its_text_without_what_stands_around_it() -> None:
    async with kit() as (tools, there):
        there.answers["/old"] = Answer(status=301, headers={"Location": "/moss"})
        answer = await ran(tools.get("fetch_page"), '{"url": "https://example.org/old"}')
    assert isinstance(answer, Output)
    assert answer.content.splitlines()[:3] == [
        "On moss",
        "https://example.org/moss",
        "Date: 2026-05-06",
    ]
    assert "Tap water holds too much lime" in answer.content
    for noise in ("secret", "Shop", "<", "imprint"):
        assert noise not in answer.content
    (source,) = answer.sources
    assert (source.title, source.uri) == ("On moss", "https://example.org/moss")


async def test_a_long_page_comes_in_parts_and_is_fetched_once() -> None:
    text = "".join(chr(97 + each % 26) for each in range(PART + 10)).encode()
    async with kit() as (tools, there):
        there.answers["/news"] = Answer(body=text, headers={"Content-Type": "text/plain; charset=utf-8"})
        second = await ran(tools.get("fetch_page"), '{"url": "https://example.org/news", "part": 2}')
        assert isinstance(second, Output)
        assert "Part 2 of 2" in second.content
        assert second.content.endswith(text[PART:].decode())
        third = await ran(tools.get("fetch_page"), '{"url": "https://example.org/news", "part": 3}')
        assert isinstance(third, ToolFailure)
        assert third.field == "part"
        assert len(there.asked) == 1


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost/", "file:///etc/passwd", "http://printer.lan/"],
)
async def test_what_is_private_is_not_read(url: str) -> None:
    async with kit() as (tools, there):
        answer = await ran(tools.get("fetch_page"), json.dumps({"url": url}))
        assert isinstance(answer, ToolFailure)
        assert (answer.reason, answer.field, answer.retryable) == ("ACTION_FORBIDDEN", "url", False)
        assert not there.asked


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(status=404), "not there"),
        (Answer(body=b"%PDF-1.7", headers={"Content-Type": "application/pdf"}), "application/pdf"),
        (Answer(body=b"<html><body></body></html>", headers={"Content-Type": "text/html"}), "no text"),
    ],
)
async def test_what_is_no_readable_page_says_why(answer: Answer, says: str) -> None:
    async with kit() as (tools, there):
        there.answers["/news"] = answer
        failure = await ran(tools.get("fetch_page"), NEWS)
    assert isinstance(failure, ToolFailure)
    assert says in failure.message


@pytest.mark.requirement("AGT-6")
async def test_the_reader_of_a_page_dies_with_the_action(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
    real = asyncio.create_subprocess_exec

    async def hanging(*_: str, **options: object) -> asyncio.subprocess.Process:
        program = await real("sleep", "60", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        begun.put_nowait(program)
        return program

    monkeypatch.setattr(asyncio, "create_subprocess_exec", hanging)
    async with kit() as (tools, _):
        reading = asyncio.ensure_future(ran(tools.get("fetch_page"), MOSS))
        async with asyncio.timeout(SOON.total_seconds()):
            program = await begun.get()
        reading.cancel()
        async with asyncio.timeout(SOON.total_seconds()):
            assert await program.wait() != 0
