"""What a newcomer does in the first minutes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.house import ROOT, House, alive, descendants, house
from tests.weights import weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_EXAMPLE = re.compile(r"<!-- run: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)


def examples() -> dict[str, str]:
    return dict(_EXAMPLE.findall((ROOT / "README.md").read_text()))


def in_this_environment(script: str) -> str:
    """The script as it stands, but for the environment's folder when the tests run in another one."""
    here = Path(sys.executable).parent
    programs = {"mesh": f"{sys.executable} -m mesh"}
    return re.sub(r"\.venv/bin/(\w+)", lambda found: programs.get(found[1], f"{here}/{found[1]}"), script)


@pytest.mark.requirement("RUN-5")
@pytest.mark.parametrize("name", sorted(examples()))
def test_the_commands_of_the_readme_run_as_they_stand(home: House, name: str) -> None:
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", in_this_environment(examples()[name])],
        cwd=ROOT,
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "391" in run.stdout
    assert "turnFinished" in run.stdout


@pytest.mark.requirement("AGT-2")
def test_mesh_tools_lists_what_is_turned_on_and_what_is_not(home: House) -> None:
    listed = home.mesh("tools")
    assert listed.returncode == 0, listed.stderr
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if line.strip()}
    assert " ready " in lines["calculate"]
    assert " not " in lines["web_search"]
    assert "docs/tools.md" in listed.stdout


@pytest.mark.requirement("RUN-3")
def test_one_question_from_the_terminal_goes_through_the_calculator(home: House) -> None:
    told = home.mesh("chat", "--once", "What is 17*23? Use the calculator.")
    assert (told.returncode, told.stdout.strip()) == (0, "The answer is 391.")
    assert "calculate" in told.stderr
    events = home.mesh("chat", "--once", "What is 17*23?", "--json").stdout.splitlines()
    kinds = [
        next(key for key in json.loads(line) if key.startswith(("turn", "text", "tool"))) for line in events
    ]
    assert (kinds[0], kinds[-1]) == ("turnAccepted", "turnFinished") or kinds[-1].startswith("turn")


@pytest.mark.requirement("RUN-4")
def test_status_and_doctor_find_all_well(home: House) -> None:
    status, doctor = home.mesh("status"), home.mesh("doctor")
    assert status.returncode == 0
    assert all(room in status.stdout for room in ("context", "orchestrator", "llm", "media", "envoy"))
    assert doctor.returncode == 0, doctor.stdout
    assert "All is well." in doctor.stdout


@pytest.mark.requirement("RUN-6")
def test_a_second_mesh_runs_beside_the_first(home: House) -> None:
    with house() as other:
        assert other.mesh("chat", "--once", "hello").stdout.strip() == "You said: hello"
        assert home.mesh("chat", "--once", "hello").stdout.strip() == "You said: hello"
        assert other.token() != home.token()
        refused = httpx.get(f"{other.url}/v1/sessions", headers={"authorization": f"Bearer {home.token()}"})
        assert refused.status_code == 401


@pytest.mark.requirement("RUN-1")
def test_ctrl_c_ends_everything_it_started() -> None:
    with house() as running:
        started = descendants(running.process.pid)
        assert len(started) >= 5
        assert running.stop() == 0
        assert not [pid for pid in started if alive(pid)]
        assert running.mesh("status").returncode == 1


@pytest.mark.requirement("EDGE-1")
def test_the_page_is_served_and_nothing_unknown(home: House) -> None:
    page = httpx.get(home.url)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert httpx.get(f"{home.url}/assistant.turn.v1.TurnService/RunTurn").status_code in (401, 404)
    with home.http() as http:
        assert http.post("/assistant.turn.v1.TurnService/RunTurn").status_code == 404
        assert http.get("/admin").status_code == 404


@pytest.mark.requirement("RUN-1", "LLM-7", "AGT-1")
@pytest.mark.timeout(500)
def test_the_built_in_model_uses_the_calculator_and_answers_391() -> None:
    weights("default")
    with house("default") as running:
        told = running.mesh("chat", "--once", "What is 17*23? Use the calculator.", timeout=240)
    assert told.returncode == 0, told.stderr
    assert "391" in told.stdout
    assert "calculate" in told.stderr
