"""The folder of plugins: what comes, changes, breaks and goes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from chassis.tasks import Tasks
from chassis.testing import SOON
from orchestrator_svc.additions import LiveCatalogue
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.conversation import ContextUpdate, NextAction
from orchestrator_svc.plugins.folder import PluginFolder, signature
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox, find
from orchestrator_svc.tools.calculator import CALCULATOR
from orchestrator_svc.tools.tool import Effect, Lack, Origin, Output, Schema, Setting, Tool, ToolFailure

ROOT = Path(__file__).parents[4]
EXAMPLES = ROOT / "examples/plugins"
GREET = (
    '''
from mesh_plugin import action

@action()
def greet(name: str) -> str:
    """Greets somebody."""
    return f"{word} {{name}}"
'''.replace("{word}", "WORD")
    .replace("{{", "{")
    .replace("}}", "}")
)


class House:
    """A folder of plugins and the catalogue that follows it."""

    def __init__(self, folder: Path, catalogue: LiveCatalogue) -> None:
        self.folder = folder
        self.catalogue = catalogue

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    async def until(self, holds: Callable[[Catalogue], bool]) -> Catalogue:
        async with asyncio.timeout(4 * SOON.total_seconds()):
            while True:
                await self.catalogue.look()
                if holds(now := self.catalogue.now()):
                    return now
                await asyncio.sleep(0.01)

    async def got(self, name: str) -> Tool[Any]:
        found = (await self.until(lambda now: now.get(name) is not None)).get(name)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return asyncio.run(find(os.environ["PATH"], accept_none=False))


@pytest.fixture
async def house(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[House]:
    async with Tasks() as tasks:
        yield House(tmp_path, LiveCatalogue([CALCULATOR], [PluginFolder(tmp_path, sandbox, tasks)]))


async def run(tool: Tool[Any], arguments: object, **facts: object) -> Output:
    given = {key.replace("__", "."): json.dumps(value) for key, value in facts.items()}
    fault = Schema(tool.schema).fault(json.dumps(arguments))
    assert fault is None, fault
    return await tool.run(json.dumps(arguments), Setting(now_us=1, facts=given))


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6")
async def test_a_plugin_comes_changes_and_goes_without_a_restart(house: House) -> None:
    house.write("hello.py", GREET.replace("WORD", "Hello"))
    first = await house.got("greet")
    assert (first.origin, first.agent, first.effect) == (Origin.PLUGIN, "hello", Effect.NONE)
    assert (await run(first, {"name": "Bo"})).content == "Hello Bo"
    house.write("hello.py", GREET.replace("WORD", "Good morning"))
    changed = (await house.until(lambda now: now.get("greet") is not first)).get("greet")
    assert changed is not None
    assert (await run(changed, {"name": "Bo"})).content == "Good morning Bo"
    (house.folder / "hello.py").unlink()
    await house.until(lambda now: now.get("greet") is None)


@pytest.mark.requirement("TOOL-6")
async def test_folders_that_come_and_go_while_it_looks_do_no_harm(house: House) -> None:
    package, over = house.folder / "busy", threading.Event()
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("")

    def churn() -> None:
        for turn in itertools.count():
            if over.is_set():
                return
            (package / "data" / str(turn % 20)).mkdir()
            if turn % 20 == 19:
                shutil.rmtree(package / "data")
                (package / "data").mkdir()

    churning = asyncio.create_task(asyncio.to_thread(churn))
    try:
        async with asyncio.timeout(4 * SOON.total_seconds()):
            for _ in range(400):
                signature(package)
                await asyncio.sleep(0)
    finally:
        over.set()
        await churning


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6", "AGT-2")
async def test_one_broken_plugin_is_told_with_its_reason_and_stops_no_other(house: House) -> None:
    house.write("hello.py", GREET)
    broken = {
        "syntax.py": ("def", "SyntaxError"),
        "import_.py": ("import nothing_like_it", "No module named 'nothing_like_it' (line 1)"),
        "raises.py": ("x = 1\nraise SystemExit(3)", "SystemExit"),
        "leaves.py": ("import os\nos._exit(0)", "ended without an answer"),
        "empty.py": ("", "it has no actions"),
        "untyped.py": ("from mesh_plugin import action\n@action()\ndef f(x):\n  'F.'", "x has no type"),
        "shadow.py": (GREET.replace("def greet", "def calculate"), "another action called calculate"),
        "reserved.py": (
            GREET.replace("def greet", "def document_search"),
            "another action called document_search",
        ),
        "second.py": (GREET.replace("WORD", "Other"), "another action called greet"),
        "server.py": (GREET.replace("def greet", "def notes__find"), "two underscores"),
        "odd.py": (GREET.replace("@action()", "@action(name='No Name')"), "no name of an action"),
    }
    for name, (text, _) in broken.items():
        house.write(name, text)
    house.write("wish.py", GREET.replace("def greet", "def wish"))
    house.write("wish.toml", "colour = 1")
    names = {*broken, "wish.py"}
    now = await house.until(lambda now: names <= {tool.name for tool in now} and now.get("greet") is not None)
    for name, (_, words) in {**broken, "wish.py": ("", "unknown field")}.items():
        tool = now.get(name)
        assert tool is not None
        assert (tool.ready, tool.lack) == (False, Lack.FAILED)
        assert words in tool.missing, (name, tool.missing)
    greet = now.get("greet")
    assert greet is not None
    assert (await run(greet, {"name": "Bo"})).content == "WORD Bo"
    assert now.get("calculate") is CALCULATOR


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6", "AGT-8")
async def test_the_examples_work_as_written(house: House) -> None:
    for each in EXAMPLES.glob("*.py"):
        shutil.copy(each, house.folder)
    good = await run(await house.got("still_good"), {"items": [{"name": "milk", "age_days": 9}]})
    assert json.loads(good.content) == {"milk": "too old"}
    with pytest.raises(ToolFailure, match="how long jam keeps") as failure:
        await run(await house.got("still_good"), {"items": [{"name": "jam", "age_days": 9}]})
    assert failure.value.field == "items"
    portions = await house.got("portions")
    assert portions.context_keys == ("pantry.people",)
    told = await run(portions, {"dish": "soup", "size": "large"}, pantry__people=3)
    assert (told.content, told.context_updates) == (
        "6 portions of soup",
        (ContextUpdate(key="pantry.last_dish", value='"soup"'),),
    )
    planned = await run(await house.got("plan_journey"), {"city": "Rome"})
    assert planned.content == "2 days in Rome"
    assert planned.context_updates == (ContextUpdate(key="journey.city", value='"Rome"'),)
    assert planned.next_actions == (NextAction(action="get_forecast", arguments='{"location": "Rome"}'),)


def test_the_guide_shows_the_examples_as_they_are() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/plugins.md").read_text(), re.DOTALL)
    assert shown
    written = [each.read_text() for each in EXAMPLES.glob("*.py")]
    assert all(any(each in text for text in written) for each in shown)


@pytest.mark.requirement("TOOL-6")
async def test_without_a_sandbox_no_plugin_runs_and_each_says_why(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(GREET)
    async with Tasks() as tasks:
        catalogue = LiveCatalogue([CALCULATOR], [PluginFolder(tmp_path, NoSandbox("no bwrap"), tasks)])
        await catalogue.look()
        [entry] = [tool for tool in catalogue.now() if tool.origin is Origin.PLUGIN]
    assert (entry.name, entry.missing) == ("hello.py", "Plugins are off: no bwrap.")
    assert entry.lack is Lack.NOT_CONFIGURED


async def test_a_turn_keeps_the_actions_it_began_with(tmp_path: Path) -> None:
    async with Tasks() as tasks:
        catalogue = LiveCatalogue([CALCULATOR], [PluginFolder(tmp_path, NoSandbox("none"), tasks)])
        began = catalogue.now()
        (tmp_path / "hello.py").write_text(GREET)
        await catalogue.look()
        assert began.get("hello.py") is None
        assert catalogue.now().get("hello.py") is not None


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6")
async def test_a_plugin_reads_the_files_that_its_manifest_names(house: House) -> None:
    notes = house.folder.parent / f"{house.folder.name}-notes"
    notes.mkdir()
    (notes / "one.txt").write_text("moss")
    text = (
        "from pathlib import Path\nfrom mesh_plugin import action\n@action()\ndef look() -> str:\n"
        f"    'Looks.'\n    return Path({str(notes / 'one.txt')!r}).read_text()\n"
    )
    house.write("looks.py", text)
    with pytest.raises(ToolFailure, match="FileNotFoundError"):
        await run(await house.got("look"), {})
    before = house.catalogue.now().get("look")
    house.write("looks.toml", f'files = ["{notes}"]\n[actions.look]\neffect = "reads_out"\n')
    found = (await house.until(lambda now: now.get("look") is not before)).get("look")
    assert found is not None
    assert (await run(found, {})).content == "moss"
    assert found.effect is Effect.READS_OUT
