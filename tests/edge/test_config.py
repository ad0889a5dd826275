"""Envoy's own word on the configuration, and what it makes of the routes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chassis.testing import socket_directory
from mesh import edge
from mesh.places import places
from mesh.settings import MeshSettings
from tests.edge import proxy
from tests.edge.conftest import Mesh

pytestmark = pytest.mark.slow


@pytest.mark.requirement("EDGE-3")
def test_envoy_accepts_the_configuration_for_one_machine_and_for_a_cluster() -> None:
    done = subprocess.run(
        ["bash", "envoy/verify.sh"],
        cwd=proxy.REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["local", "cluster"]


@pytest.mark.requirement("EDGE-3")
def test_envoy_accepts_what_a_start_on_this_machine_writes() -> None:
    with socket_directory() as folder:
        where = places(folder, runtime=None)
        where.make()
        written = edge.write(MeshSettings(), where)
        assert proxy.validate(written).returncode == 0
    asked = set(re.findall(r"\$\{([A-Z_]+)\}", proxy.CONFIG.read_text("utf-8")))
    assert asked == set(edge.values(MeshSettings(), where)) == set(proxy.local_values(folder, 1))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("idle_timeout: 600s", "idle_timeout: soon"),
        ("cluster: llm,", "cluster: lm,"),
        ("reject_unknown_method", "reject_unknown_methods"),
    ],
)
def test_envoy_refuses_a_configuration_with_a_mistake(right: str, wrong: str) -> None:
    with socket_directory() as folder:
        config = folder / "e.yaml"
        good = proxy.render(proxy.local_values(folder, 8080))
        config.write_text(good.replace(right, wrong, 1))
        assert wrong in config.read_text()
        assert proxy.validate(config).returncode != 0
        config.write_text(good)
        assert proxy.validate(config).returncode == 0


def test_a_running_edge_knows_no_cluster_but_its_own(mesh: Mesh) -> None:
    dump = mesh.edge.ask_admin("/clusters?format=json").json()
    assert {cluster["name"] for cluster in dump["cluster_statuses"]} == {
        *("context", "llm", "media", "mcp", "keys", "nowhere")
    }


def test_an_edge_that_starts_without_a_web_root_still_answers_calls(tmp_path: Path, mesh: Mesh) -> None:
    with socket_directory() as folder:
        values = proxy.local_values(mesh.folder, proxy.free_port())
        values |= {"ADMIN_SOCKET": str(folder / "admin.sock"), "WEB_ROOT": str(tmp_path / "none")}
        with proxy.envoy(folder, values) as running:
            assert running.ask_admin("/ready").status_code == 200
