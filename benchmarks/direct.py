"""Calling the provider without a mesh: what every figure is compared with."""

from __future__ import annotations

import json
import time

import httpx

from benchmarks.world import Timing


async def turn(http: httpx.AsyncClient, port: int, words: str) -> Timing:
    """One streamed chat completion."""
    body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": words}]}
    began = time.perf_counter()
    first, received = 0.0, 0
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with http.stream("POST", url, content=json.dumps(body), timeout=300) as response:
        async for line in response.aiter_lines():
            if '"content"' in line:
                first = first or time.perf_counter() - began
                received += 1
    return Timing(first_token=first, seconds=time.perf_counter() - began, tokens=received)
