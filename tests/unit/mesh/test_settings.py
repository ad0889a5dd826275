from pathlib import Path

import pytest

from mesh.errors import SettingsInvalid
from mesh.settings import MeshSettings, for_rooms


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path))


@pytest.mark.requirement("RUN-6")
def test_the_file_sets_what_the_environment_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mesh.toml").write_text('port = 9001\nmodel = "tiny"\norigins = ["https://a.example"]\n')
    monkeypatch.setenv("MESH_PORT", "9002")

    settings = MeshSettings.load()

    assert (settings.port, settings.model, settings.origins) == (9002, "tiny", ("https://a.example",))
    assert settings.data_dir == tmp_path


@pytest.mark.requirement("RUN-6")
@pytest.mark.parametrize(
    "text", ["prot = 1", "port = 0", 'bind = "somewhere"', "port = ", '[llm]\nkey = ["a"]']
)
def test_a_setting_that_cannot_be_used_is_named_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "mesh.toml").write_text(text)

    with pytest.raises(SettingsInvalid) as failure:
        MeshSettings.load()

    assert str(tmp_path / "mesh.toml") in failure.value.cure
    assert text.split()[0].strip("[]") in failure.value.what or "not TOML" in failure.value.what


def test_an_error_does_not_repeat_a_secret(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text('[llm]\nopenai_api_key = ["sk-canary"]')

    with pytest.raises(SettingsInvalid) as failure:
        MeshSettings.load()

    assert "sk-canary" not in str(failure.value)


@pytest.mark.requirement("EDGE-4")
def test_an_address_others_can_reach_needs_tls_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_BIND", "0.0.0.0")
    with pytest.raises(SettingsInvalid, match="tls_proxy"):
        MeshSettings.load()

    monkeypatch.setenv("MESH_TLS_PROXY", "true")
    assert MeshSettings.load().bind == "0.0.0.0"


@pytest.mark.requirement("RUN-6")
def test_a_rooms_settings_reach_that_room_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mesh.toml").write_text('[llm]\nopenai_api_key = "from file"\nother = "kept"\n')
    monkeypatch.setenv("LLM_OPENAI_API_KEY", "from environment")
    monkeypatch.setenv("CONTEXT_DATABASE_URL", "postgresql://x")

    rooms = for_rooms(MeshSettings.load())

    assert rooms["llm"]["LLM_OPENAI_API_KEY"] == "from environment"
    assert rooms["llm"]["LLM_OTHER"] == "kept"
    assert rooms["context"]["CONTEXT_DATABASE_URL"] == "postgresql://x"
    assert not any("LLM" in name for room in ("context", "orchestrator", "media") for name in rooms[room])
