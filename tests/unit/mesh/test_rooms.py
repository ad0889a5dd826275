import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.places import places
from mesh.rooms import ROOMS, Model, edge_room, python_rooms, waves

WHERE = places(Path("/srv/mesh"), runtime=None)
ROOMS_MADE = python_rooms(
    WHERE, model=Model(name="m", scripted=True), log_format="text", extra={"llm": {"LLM_X": "1"}}
)
EDGE = edge_room(WHERE, binary=Path("/bin/envoy"), config=Path("/c.yaml"), concurrency=1)


@pytest.mark.requirement("SAFE-1")
def test_each_room_is_told_only_of_the_peers_it_may_dial() -> None:
    told = {
        room.name: {peer for peer in ROOMS if f"{room.name.upper()}_{peer.upper()}" in room.environment}
        for room in ROOMS_MADE
    }

    assert told == {
        "context": {"orchestrator", "media"},
        "orchestrator": {"llm", "media", "context"},
        "llm": {"context"},
        "media": {"context", "llm"},
    }


@pytest.mark.requirement("SAFE-2")
def test_nothing_of_the_operators_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    rooms = python_rooms(WHERE, model=Model(name="m"), log_format="text", extra={})

    for room in (*rooms, EDGE):
        own = {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "LANG", "HOME", "GRPC_ENABLE_FORK_SUPPORT"}
        assert {name for name in room.environment if not name.startswith(f"{room.name.upper()}_")} <= own


def test_only_the_llm_room_hears_of_the_model_and_of_its_own_settings() -> None:
    llm = next(room for room in ROOMS_MADE if room.name == "llm")

    assert llm.environment["LLM_SCRIPT"] == "true"
    assert llm.environment["LLM_X"] == "1"
    assert not any("LLM_X" in room.environment for room in ROOMS_MADE if room is not llm)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Model(name="scripted", scripted=True), {"LLM_SCRIPT": "true"}),
        (Model(name="openai/x"), {"LLM_DEFAULT_MODEL": "openai/x"}),
        (
            Model(name="tiny-1", file=Path("/w.gguf"), sha256="ab"),
            {"LLM_MODEL_NAME": "tiny-1", "LLM_MODEL_FILE": "/w.gguf", "LLM_MODEL_SHA256": "ab"},
        ),
    ],
)
def test_the_llm_room_is_told_what_answers(model: Model, told: dict[str, str]) -> None:
    llm = python_rooms(WHERE, model=model, log_format="text", extra={})[2]

    assert {
        name: value for name, value in llm.environment.items() if "MODEL" in name or "SCRIPT" in name
    } == told


@pytest.mark.requirement("RUN-1")
def test_context_starts_first_and_drains_while_the_others_still_serve() -> None:
    rooms = (*ROOMS_MADE, EDGE)

    assert {room.name: room.needs for room in rooms}["context"] == ()
    assert all(room.needs == ("context",) for room in rooms if room.name != "context")
    assert [sorted(room.name for room in wave) for wave in waves(rooms)] == [
        ["context"],
        ["orchestrator"],
        ["envoy", "llm", "media"],
    ]


@pytest.mark.requirement("RUN-1")
def test_a_room_on_a_leash_ends_at_once_when_its_supervisor_is_already_gone() -> None:
    leash = Path(__file__).parents[3] / "mesh" / "leash.py"
    not_its_parent = str(os.getppid())

    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(leash), not_its_parent, sys.executable, "-c", "print('ran')"],
        capture_output=True,
        timeout=20,
    )

    assert (ended.returncode, ended.stdout) == (1, b"")
