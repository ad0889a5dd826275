"""A relay that adds a token: the conformance suite knows no way to send one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.e2e.house import free_port

_OWN = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}


@contextmanager
def relay(url: str, token: str) -> Iterator[str]:
    """Pass requests on to `url` with the token, as they are; answers the address to ask."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(_app(url, token, port), host="127.0.0.1", port=port, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        thread.join(10)


def _app(url: str, token: str, port: int) -> Starlette:
    client = httpx2.AsyncClient(timeout=60)
    there = urlsplit(url).netloc

    async def forward(request: Request) -> StreamingResponse:
        headers = [
            (key, value.replace(f"127.0.0.1:{port}", there))  # who asks for the relay asks for the mesh
            for key, value in request.headers.items()
            if key == "host" or key not in _OWN | {"accept-encoding"}
        ]
        given = [("authorization", f"Bearer {token}"), ("accept-encoding", "identity")]
        sent = client.build_request(
            request.method, url, headers=headers + given, content=await request.body()
        )
        answer = await client.send(sent, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await answer.aclose()

        passed = {key: value for key, value in answer.headers.items() if key not in _OWN}
        return StreamingResponse(body(), answer.status_code, passed)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        routes=[Route("/mcp", forward, methods=["GET", "POST", "DELETE", "OPTIONS"])], lifespan=lifespan
    )
