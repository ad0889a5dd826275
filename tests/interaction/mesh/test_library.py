"""`mesh models`: get, choose and remove the models of this machine."""

import hashlib
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from mesh import library, record
from mesh.errors import ModelInUse, ModelUnavailable, ModelUnknown, SettingsInvalid
from mesh.machine import machine
from mesh.manifest import choose
from mesh.places import Places, places
from mesh.settings import MeshSettings
from mesh.weights import file_of, verified
from tests.interaction.mesh.site import CONTENT, Site

pytestmark = pytest.mark.requirement("LLM-2")
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def where(tmp_path: Path) -> Places:
    made = places(tmp_path / "d", runtime=tmp_path)
    made.make()
    return made


def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


def told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def pull(where: Places, site: Site, name: str = "mine", sha256: str = SHA) -> None:
    address = f"{site.url}/m.gguf"
    library.pull_from(MeshSettings(), where, name, address, sha256, screen())


def test_any_file_can_be_had_by_address_and_digest_and_is_then_known_by_its_name(
    where: Places, site: Site
) -> None:
    pull(where, site)

    weights = library.known(where.models)["mine"]
    assert verified(weights, file_of(weights, where.models))
    others = library.known(where.models)
    assert choose("mine", machine(where.models), others=others).weights == weights
    console = screen()
    library.show(MeshSettings(model="mine"), where, console)
    assert "chosen, here, yours" in told(console)


def test_a_download_that_was_cut_goes_on_where_it_ended(where: Places, site: Site) -> None:
    site.cut = 1000
    with pytest.raises(ModelUnavailable):
        pull(where, site)
    site.cut = None
    library.pull(MeshSettings(), where, "mine", screen())

    assert site.asked == ["/m.gguf bytes=0-", "/m.gguf bytes=1000-"]


def test_other_bytes_than_the_named_ones_are_never_kept(where: Places, site: Site) -> None:
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        pull(where, site, sha256="0" * 64)

    assert not list(where.models.glob("*.gguf*"))


@pytest.mark.parametrize("name", ["default", "scripted", "../x", "UPPER", ""])
def test_a_name_that_is_taken_or_is_none_is_refused(where: Places, site: Site, name: str) -> None:
    with pytest.raises(ModelUnknown):
        pull(where, site, name=name)


@pytest.mark.parametrize("address", ["http://example.org/m.gguf", "file:///etc/passwd", "m.gguf"])
def test_an_address_that_is_not_https_is_refused(where: Places, address: str) -> None:
    with pytest.raises(ModelUnknown, match="https"):
        library.pull_from(MeshSettings(), where, "mine", address, SHA, screen())


def test_an_address_that_does_not_answer_is_told_and_nothing_is_remembered(where: Places, site: Site) -> None:
    site.status = 404
    with pytest.raises(ModelUnavailable, match="404"):
        pull(where, site)

    assert "mine" not in library.known(where.models)


def test_the_chosen_model_is_written_beside_what_its_owner_wrote(where: Places) -> None:
    file = where.data / "mesh.toml"
    file.write_text('# my mesh\nport = 8123  # free here\n\n[llm]\nengine_queue = "4"\n')

    library.use(MeshSettings(), where, "light", screen())
    library.use(MeshSettings(), where, "tiny", screen())

    assert file.read_text() == (
        'model = "tiny"\n# my mesh\nport = 8123  # free here\n\n[llm]\nengine_queue = "4"\n'
    )
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_settings_file_that_is_not_toml_is_left_alone(where: Places) -> None:
    (where.data / "mesh.toml").write_text("port = = 1")
    with pytest.raises(SettingsInvalid):
        library.use(MeshSettings(), where, "tiny", screen())

    assert (where.data / "mesh.toml").read_text() == "port = = 1"


def test_a_model_nobody_knows_is_refused_with_the_names_there_are(where: Places) -> None:
    for act in (library.pull, library.use, library.remove):
        with pytest.raises(ModelUnknown, match="default, light, large, tiny"):
            act(MeshSettings(), where, "huge", screen())


def test_a_removed_model_leaves_nothing_and_one_in_use_stays(where: Places, site: Site) -> None:
    pull(where, site)
    mine = record.Record(pid=os.getpid(), run="", bind="", port=1, model="mine", rooms={})
    with record.owned(where):
        record.write(where, mine)
        with pytest.raises(ModelInUse):
            library.remove(MeshSettings(), where, "mine", screen())

    library.remove(MeshSettings(), where, "mine", screen())

    assert not list(where.models.glob("mine*"))
    assert "mine" not in library.known(where.models)
