import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from mesh.errors import EdgeUnusable, ModelUnknown, NotEnoughRoom
from mesh.machine import machine, memory
from mesh.manifest import Machine, built_in
from mesh.places import Places, places
from mesh.settings import MeshSettings
from mesh.sources import AddressSource, HubSource, PackageSource
from mesh.up import get_model, models_folder, sources, up, welcome
from mesh.weights import file_of


@pytest.fixture
def where(tmp_path: Path) -> Places:
    made = places(tmp_path, runtime=tmp_path)
    made.make()
    return made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.requirement("RUN-1")
def test_the_welcome_has_the_address_the_next_command_and_the_code_with_its_link() -> None:
    told = "\n".join(welcome(MeshSettings(port=8123), 1.26, "ABCD-1234"))

    assert "Ready in 1.3 s" in told
    assert "http://127.0.0.1:8123/#setup=ABCD-1234" in told
    assert "mesh chat" in told


@pytest.mark.requirement("RUN-1")
def test_once_there_is_an_account_no_code_is_shown() -> None:
    assert "code" not in "\n".join(welcome(MeshSettings(bind="::1"), 1, ""))
    assert "http://[::1]:8080" in "\n".join(welcome(MeshSettings(bind="::1"), 1, ""))


@pytest.mark.requirement("LLM-9")
def test_the_scripted_model_is_on_only_when_it_was_asked_for(where: Places) -> None:
    assert get_model(MeshSettings(model="scripted"), where, quiet()).scripted
    assert not get_model(MeshSettings(model="openai/x"), where, quiet()).scripted
    with pytest.raises(ModelUnknown):
        get_model(MeshSettings(model="tinny"), where, quiet())


def test_the_hub_is_asked_before_the_packages_and_never_when_it_is_switched_off() -> None:
    tiny = built_in()["tiny"]
    assert [type(source) for source in sources(MeshSettings(), tiny)] == [HubSource, PackageSource]
    assert [type(source) for source in sources(MeshSettings(hub=""), tiny)] == [PackageSource]


def test_a_model_its_owner_added_comes_from_its_own_address_alone() -> None:
    mine = built_in()["tiny"].model_copy(update={"address": "https://example.org/m.gguf"})
    assert [type(source) for source in sources(MeshSettings(), mine)] == [AddressSource]


@pytest.mark.requirement("RUN-6")
def test_weights_can_be_shared_by_meshes(where: Places, tmp_path: Path) -> None:
    assert models_folder(MeshSettings(), where) == where.models
    assert models_folder(MeshSettings(models_dir=tmp_path / "m"), where) == tmp_path / "m"


@pytest.mark.requirement("RUN-1")
def test_what_is_wrong_with_the_edge_is_told_before_the_model_is_got(tmp_path: Path) -> None:
    settings = MeshSettings(
        data_dir=tmp_path / "d", port=1024, envoy_config=tmp_path / "none.yaml", model="tiny"
    )

    with pytest.raises(EdgeUnusable, match=r"none\.yaml is not here"):
        up(settings, quiet())

    assert not file_of(built_in()["tiny"], tmp_path / "d" / "models").with_suffix(".gguf.partial").exists()


def test_the_machine_is_measured_where_the_weights_will_go(tmp_path: Path) -> None:
    offered = machine(tmp_path / "not" / "made" / "yet")

    assert offered == Machine(memory=memory(), disk=offered.disk)
    assert offered.disk > 0


@pytest.mark.requirement("RUN-1")
def test_a_named_model_that_does_not_fit_the_disk_is_refused_with_its_size(
    where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())

    with pytest.raises(NotEnoughRoom, match="1 MB are free"):
        get_model(MeshSettings(model="tiny"), where, quiet())
