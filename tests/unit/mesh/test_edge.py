import json
from pathlib import Path

import pytest

from mesh import edge
from mesh.errors import EdgeUnusable
from mesh.places import places
from mesh.settings import MeshSettings


@pytest.mark.requirement("RUN-6")
def test_only_marked_places_are_filled() -> None:
    text = 'port: ${MESH_PORT} # "%REQ(:path)%" regex: "^/v1/[^/]+$" {"a": "$1"}'

    assert edge.render(text, {"MESH_PORT": "9"}) == text.replace("${MESH_PORT}", "9")


def test_a_place_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(EdgeUnusable, match=r"\$\{TYPO\}"):
        edge.render("a: ${TYPO}", {"MESH_PORT": "9"})


def test_the_origins_are_the_meshs_own_and_those_the_operator_adds(tmp_path: Path) -> None:
    settings = MeshSettings(port=9100, origins=("https://app.example",))

    rendered = edge.values(settings, places(tmp_path, runtime=None))["ORIGINS"]

    assert json.loads(rendered) == [
        {"exact": "http://127.0.0.1:9100"},
        {"exact": "http://localhost:9100"},
        {"exact": "https://app.example"},
    ]


@pytest.mark.requirement("EDGE-1")
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (MeshSettings(), "100"),
        (MeshSettings(reflection=False), "0"),
        (MeshSettings(bind="0.0.0.0", tls_proxy=True), "0"),
        (MeshSettings(bind="0.0.0.0", tls_proxy=True, reflection=True), "100"),
    ],
)
def test_reflection_passes_on_loopback_or_when_it_was_asked_for(settings: MeshSettings, told: str) -> None:
    assert edge.values(settings, places(Path("/d"), runtime=None))["REFLECTION"] == told


@pytest.mark.slow
@pytest.mark.requirement("RUN-4")
def test_the_packaged_envoy_runs_and_is_the_version_the_edge_is_written_for() -> None:
    assert edge.version(edge.program(MeshSettings())).startswith(f"{edge.VERSION}.")


def test_an_envoy_that_cannot_run_is_told_in_words(tmp_path: Path) -> None:
    broken = tmp_path / "envoy"
    broken.write_text("not a program")

    with pytest.raises(EdgeUnusable, match="cannot run on this machine"):
        edge.version(broken)
    with pytest.raises(EdgeUnusable, match="is not here"):
        edge.program(MeshSettings(envoy_binary=tmp_path / "none"))
