"""fetch_page: the text of one web page."""

from __future__ import annotations

import asyncio
import os
import sys
from email.message import Message
from typing import Annotated

import msgspec

from orchestrator_svc.conversation import Source
from orchestrator_svc.egress.failures import EgressFailure, NoAddress, Refused
from orchestrator_svc.egress.web import Bounds, Reply, Web
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.kept import Kept
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool, ToolFailure

OFF = "Reading web pages is not turned on: set ORCHESTRATOR_FETCH_PAGES=true."
PART = 8_000
_BOUNDS = Bounds(bytes=5 * 1024 * 1024, seconds=15.0)
_KEPT_SECONDS = 300
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_ACCEPT = "text/html, application/xhtml+xml, text/plain;q=0.8, application/json;q=0.5"


class PageWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which page to read."""

    url: Annotated[
        str, msgspec.Meta(min_length=1, max_length=2_048, description="Its address, with http:// or https://")
    ]
    part: Annotated[int, msgspec.Meta(ge=1, le=1_000, description="Which part of a long page, from 1")] = 1


class Readable(msgspec.Struct, frozen=True):
    """What a page says, and where it was in the end."""

    title: str = ""
    date: str = ""
    text: str = ""
    url: str = ""


class Reader:
    """Performs the action; a page is kept for five minutes, so that its next part is not fetched again."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._kept: Kept[Readable] = Kept(_KEPT_SECONDS, most=8)

    async def read(self, wanted: PageWanted, setting: Setting) -> Output:
        """A part of the page's text. Raises ToolFailure."""
        page, at = await self._kept.get(wanted.url, setting.now_us, lambda: self._fetched(wanted.url))
        parts = max(1, -(-len(page.text) // PART))
        if wanted.part > parts:
            raise ToolFailure(f"The page has {parts} parts.", reason=Reason.ARGUMENTS_INVALID, field="part")
        text = page.text[(wanted.part - 1) * PART : wanted.part * PART]
        head = [page.title or page.url, page.url, *([f"Date: {page.date}"] if page.date else [])]
        head += [f"Part {wanted.part} of {parts}"] if parts > 1 else []
        source = Source(title=page.title, uri=page.url, fetched_at_us=at)
        return Output(content="\n".join((*head, "", text)), sources=(source,))

    async def _fetched(self, url: str) -> Readable:
        try:
            reply = await self._web.page(url, accept=_ACCEPT, bounds=_BOUNDS)
        except Refused as error:
            invalid = isinstance(error, NoAddress)
            reason = Reason.ARGUMENTS_INVALID if invalid else Reason.ACTION_FORBIDDEN
            raise ToolFailure(f"This page is not read: {error}.", reason=reason, field="url") from error
        except EgressFailure as error:
            raise inquiry.failure(error, "The page") from error
        if reply.status in (404, 410):
            raise ToolFailure(f"The page is not there (HTTP {reply.status}).", field="url")
        return await _readable(await inquiry.reply(_same(reply), name="The page"))


def page_tool(web: Web | None) -> Tool[PageWanted]:
    """The action; without `web` it says how to turn it on."""
    return Tool(
        name="fetch_page",
        description="Reads the text of one web page whose address is known.",
        arguments=PageWanted,
        perform=Reader(web).read if web else inquiry.absent(OFF),
        agent="web",
        effect=Effect.READS_OUT,
        timeout=30.0,
        examples=(
            Example(
                request="What does https://example.org/news say?",
                arguments={"url": "https://example.org/news"},
            ),
        ),
        missing="" if web else OFF,
    )


async def _same(reply: Reply) -> Reply:
    return reply


async def _readable(reply: Reply) -> Readable:
    about = Message()
    about["content-type"] = reply.headers.get("content-type", "text/html")
    kind = about.get_content_type()
    if kind in _HTML:
        page = await _extracted(reply.body)
    elif kind.startswith("text/") or kind.endswith(("json", "xml")):
        page = Readable(text=_decoded(reply.body, about.get_content_charset("utf-8")))
    else:
        raise ToolFailure(f"The address leads to a file of type {kind[:60]}, not to a page.", field="url")
    if not page.text.strip():
        raise ToolFailure("The page has no text that can be read without a browser.", field="url")
    return msgspec.structs.replace(page, url=reply.url)


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset, "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


async def _extracted(html: bytes) -> Readable:
    """The page's text, found by a process that dies with the action."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "orchestrator_svc.tools.search.readable"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        limit=8 * 1024 * 1024,
    )
    try:
        told, _ = await program.communicate(html)
        return msgspec.json.decode(told, type=Readable)
    except (msgspec.DecodeError, BrokenPipeError, ConnectionResetError) as error:
        raise ToolFailure("The page cannot be read: it is too heavy or broken.", field="url") from error
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
