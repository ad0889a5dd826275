"""`make bench`: runs the rows, shows a table, adds a line to benchmarks/history.jsonl."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks import (
    additions,
    engine,
    generation,
    litellm_proxy,
    logins,
    pages,
    rows,
    subscribers,
    tools,
    unary,
    world,
)

AT_ONCE = "400"  # the many-streams rows run 100 turns of one account


def main() -> None:
    """Run what was asked for; everything by default."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--model", default="", help="also start a mesh with this built-in model")
    parser.add_argument("--only-model", action="store_true", help="nothing but the rows of that model")
    parser.add_argument("--messages", type=int, default=10_000, help="how long the long session is")
    parser.add_argument(
        "--litellm", default=shutil.which("litellm") or "", help="a LiteLLM proxy's program to measure beside"
    )
    asked = parser.parse_args()
    found: list[rows.Row] = []
    if not asked.only_model:
        found += asyncio.run(pages.history_pages())
        found += asyncio.run(_through_providers(asked.messages))
        found += [asyncio.run(additions.plugin_call()), asyncio.run(additions.server_call())]
    if asked.litellm:
        with world.provider() as port:
            found += asyncio.run(litellm_proxy.rows(asked.litellm, port))
    if asked.model:
        found += engine.rows_of(asked.model)
    _show(found)
    _keep(found)


async def _through_providers(messages: int) -> list[rows.Row]:
    with world.provider() as port:
        alone = await generation.rows(port)
    return alone + await _through_a_provider(messages)


async def _through_a_provider(messages: int) -> list[rows.Row]:
    commit = await rows.commit_p50()
    with world.provider() as port:
        with _mesh(port) as mesh:  # of its own: memory that others gave back would be taken again
            async with world.client(mesh) as here:
                idle = await subscribers.rows(here)
        with _mesh(port) as mesh:
            async with world.client(mesh) as here:
                return [
                    await rows.first_token_one(here, port, commit),
                    *await rows.first_token_many(here, port),
                    await rows.relayed(here, port),
                    await rows.cancelled(here, port),
                    await unary.get_session_over_echo(here),
                    await unary.get_context_over_echo(here),
                    await unary.update_context(here, commit),
                    await unary.writers_of_one_context(here),
                    *await tools.rows(here, port),
                    await rows.long_session(here, messages),
                    *await logins.rows(here),
                    *idle,
                ]


def _mesh(port: int) -> AbstractContextManager[world.Mesh]:
    """A mesh before the provider at that port, whose limits nothing here reaches."""
    return world.mesh(
        MESH_MODEL="bench",
        LLM_OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
        LLM_OPENAI_KEY="bench",
        LLM_OPENAI_MODELS="bench",
        CONTEXT_RUNNING_TURNS_PER_ACCOUNT=AT_ONCE,
        CONTEXT_STREAMS_PER_ACCOUNT=AT_ONCE,
        CONTEXT_OPEN_REGISTRATION="true",
        CONTEXT_REGISTRATIONS_PER_HOUR="1000",
        CONTEXT_LOGIN_FAILURES="1000",
        CONTEXT_DAILY_COST_MICRO_USD="0",  # else so many turns at once wait for each other's money
    )


def _show(found: list[rows.Row]) -> None:
    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for column in ("figure", "value", "target", "", "measured in this run"):
        table.add_column(column)
    for row in found:
        mark = "" if row.met is None else "met" if row.met else "missed"
        table.add_row(row.name, f"{row.value:,.2f} {row.unit}", row.target, mark, row.detail)
    Console().print(table)


def _keep(found: list[rows.Row]) -> None:
    run = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        "python": platform.python_version(),
        "rows": [asdict(row) for row in found],
    }
    with rows.history().open("a") as file:
        file.write(json.dumps(run, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
