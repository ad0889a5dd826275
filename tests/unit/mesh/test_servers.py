"""The owner's files about servers of tools."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from rich.console import Console

from mesh import servers
from mesh.errors import ServerUnusable
from mesh.places import Places, places
from mesh.servers import Wanted
from mesh.settings import MeshSettings
from tests.unit.orchestrator_svc.servers.hostile import Odd, serving, tool

pytestmark = pytest.mark.requirement("MCP-1")
QUIET = Console(quiet=True)


@pytest.fixture
def here(tmp_path: Path) -> Places:
    return places(tmp_path, runtime=None)


@pytest.fixture
def settings(tmp_path: Path) -> MeshSettings:
    return MeshSettings(data_dir=tmp_path)


def test_a_server_is_written_down_and_forgotten(here: Places, settings: MeshSettings) -> None:
    (here.data / servers.FILE).write_text("# mine\n[servers.old]\nurl = 'https://old.example.com'\n")
    servers.add(settings, here, Wanted(name="notes", url="https://example.com/mcp"), QUIET)
    servers.add(settings, here, Wanted(name="files", program=("/usr/bin/x", "y")), QUIET)
    assert servers.names(here) == ["files", "notes", "old"]
    text = (here.data / servers.FILE).read_text()
    assert text.startswith("# mine")
    assert stat.S_IMODE((here.data / servers.FILE).stat().st_mode) == 0o600
    assert servers.remove(here, "notes", QUIET) == 0
    assert servers.names(here) == ["files", "old"]


@pytest.mark.parametrize(
    "wanted",
    [Wanted(name="x"), Wanted(name="x", url="https://a", program=("b",)), Wanted(name="had", url="u")],
)
def test_what_makes_no_server_is_refused(here: Places, settings: MeshSettings, wanted: Wanted) -> None:
    (here.data / servers.FILE).write_text("[servers.had]\nurl = 'https://old.example.com'\n")
    with pytest.raises(ServerUnusable):
        servers.add(settings, here, wanted, QUIET)
    assert servers.names(here) == ["had"]


def test_a_server_that_is_not_there_is_not_removed(here: Places) -> None:
    with pytest.raises(ServerUnusable):
        servers.remove(here, "none", QUIET)


@pytest.mark.slow
async def test_its_tools_are_pinned_when_the_owner_agrees(here: Places, settings: MeshSettings) -> None:
    odd = Odd()
    asked: list[str] = []

    def approve(*, agrees: bool) -> int:
        def ask(question: str) -> bool:
            asked.append(question)
            return agrees

        return servers.approve(settings, here, "notes", QUIET, yes=False, ask=ask)

    async with serving(odd.app()) as url:
        servers.add(settings, here, Wanted(name="notes", url=url), QUIET)
        with pytest.raises(ServerUnusable, match="private network"):
            await asyncio.to_thread(approve, agrees=True)
        servers.remove(here, "notes", QUIET)
        servers.add(settings, here, Wanted(name="notes", url=url, private=True), QUIET)
        assert await asyncio.to_thread(approve, agrees=False) == 1
        assert not (here.data / servers.LOCK).exists()
        assert await asyncio.to_thread(approve, agrees=True) == 0
        first = (here.data / servers.LOCK).read_text()
        odd.tools = [tool(description="Something else.")]
        assert await asyncio.to_thread(approve, agrees=True) == 0
        assert (here.data / servers.LOCK).read_text() != first
    assert asked == ["Let your assistant use these 1 tools?"] * 3
    servers.remove(here, "notes", QUIET)
    assert "notes" not in (here.data / servers.LOCK).read_text()
