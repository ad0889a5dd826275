"""`mesh backup` and `mesh restore`, as the owner of a machine uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.house import House, house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def titles(home: House) -> int:
    """How many sessions the person has."""
    with home.http() as http:
        return len(http.get("/v1/sessions").json().get("sessions", []))


@pytest.mark.requirement("OPS-5")
def test_a_running_mesh_is_backed_up_and_restored_by_two_commands(tmp_path: Path) -> None:
    with house() as home:
        assert home.mesh("chat", "--once", "hello").returncode == 0
        before = titles(home)
        made = home.mesh("backup", "--to", str(tmp_path / "kept"))
        assert made.returncode == 0, made.stderr
        (file,) = (tmp_path / "kept").glob("*.backup")
        assert str(file) in made.stdout
        assert home.mesh("chat", "--once", "and this").returncode == 0
        assert titles(home) == before + 1

        done = home.mesh("restore", str(file), timeout=120)
        assert done.returncode == 0, done.stderr + home.log.read_text()[-2000:]
        assert "sign in again" in done.stdout
        home.await_ready()
        assert home.mesh("chat", "--once", "are you there?").returncode == 0
        assert titles(home) == before + 1

        wrong = home.mesh("restore", str(tmp_path / "none.backup"))
        assert wrong.returncode == 1
        assert "No such backup" in wrong.stderr
