"""Which servers and models an operator gets for which settings and which file."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_svc import roster
from llm_svc.errors import RosterInvalid
from llm_svc.roster import Roster, Wire
from llm_svc.servers import Configured, configured
from llm_svc.settings import Settings

pytestmark = pytest.mark.requirement("LLM-2", "LLM-1")
OLLAMA = """
[[server]]
name = "ollama"
wire = "openai"
base_url = "http://127.0.0.1:11434/v1"
local = true

[[model]]
id = "llama3.2-vision"
server = "ollama"
context_tokens = 131_072
output_tokens = 4_096
vision = true
"""


def settings(folder: Path, **given: object) -> Settings:
    standing = {"listen": "unix:/x", "data_dir": folder, "keys_dir": folder, "context": "unix:/y"}
    return Settings(**{**standing, **given})  # type: ignore[arg-type]


def servers(
    folder: Path, environment: dict[str, str] | None = None, **given: object
) -> tuple[Configured, ...]:
    return configured(settings(folder, **given), roster.read(folder), environment or {})


def test_without_a_key_there_is_no_remote_model(tmp_path: Path) -> None:
    assert servers(tmp_path) == ()


@pytest.mark.parametrize("name", ["openai", "anthropic", "cohere"])
def test_a_key_brings_the_known_models_with_their_prices(tmp_path: Path, name: str) -> None:
    (one,) = servers(tmp_path, {}, **{f"{name}_key": "sk"})
    assert (one.server.name, one.server.key, one.official) == (name, "sk", True)
    assert one.server.base_url.startswith("https://")
    assert one.server.models
    for model in one.server.models:
        assert model.provider == name
        assert model.price is not None
        assert model.price.looked_up > 1_700_000_000
        assert not model.local
        assert 0 < model.output_tokens <= model.context_tokens


@pytest.mark.parametrize("name", ["openai", "anthropic", "cohere"])
def test_the_key_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "key").write_text("sk-of-a-file\nand a note\n")
    (one,) = servers(tmp_path, {}, **{f"{name}_key_file": tmp_path / "key"})
    assert one.server.key == "sk-of-a-file"


def test_a_key_file_that_is_not_there_stops_the_room_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RosterInvalid, match="absent"):
        servers(tmp_path, anthropic_key_file=tmp_path / "absent")


def test_only_the_named_models_are_on_offer_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    (one,) = servers(tmp_path, anthropic_key="sk", anthropic_models="claude-haiku-5-5, claude-opus-5-5")
    assert {model.id for model in one.server.models} == {"claude-haiku-5-5", "claude-opus-5-5"}
    with pytest.raises(RosterInvalid, match="claude-99"):
        servers(tmp_path, anthropic_key="sk", anthropic_models="claude-99")


def test_a_compatible_server_has_the_models_of_the_settings(tmp_path: Path) -> None:
    (one,) = servers(tmp_path, openai_base_url="http://x/v1", openai_models="a, b", openai_local=True)
    assert [(model.id, model.local) for model in one.server.models] == [("a", True), ("b", True)]
    assert not one.official


def test_a_file_adds_servers_and_models_without_code(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(OLLAMA)
    (one,) = servers(tmp_path)
    assert (one.wire, one.server.name, one.server.base_url) == (
        Wire.OPENAI,
        "ollama",
        "http://127.0.0.1:11434/v1",
    )
    (model,) = one.server.models
    assert (model.id, model.vision, model.local, model.price) == ("llama3.2-vision", True, True, None)


def test_the_key_of_such_a_server_stands_in_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(OLLAMA.replace("local = true", 'key_file = "secret"'))
    (tmp_path / "secret").write_text("of-a-file")
    assert servers(tmp_path)[0].server.key == "of-a-file"
    assert servers(tmp_path, {"LLM_OLLAMA_KEY": "of-the-environment"})[0].server.key == "of-the-environment"


def test_a_file_corrects_what_is_known_and_adds_a_model_to_a_provider(tmp_path: Path) -> None:
    row = '[[model]]\nid = "{}"\nserver = "anthropic"\ncontext_tokens = 10\noutput_tokens = 5\n'
    price = "price = {{ input = 1.5, output = 7, looked_up = 2026-11-01 }}\n".format()
    (tmp_path / "models.toml").write_text(row.format("claude-haiku-5-5") + price + row.format("claude-99"))
    (one,) = servers(tmp_path, anthropic_key="sk")
    models = {model.id: model for model in one.server.models}
    assert models["claude-haiku-5-5"].context_tokens == 10
    assert models["claude-haiku-5-5"].price is not None
    assert models["claude-haiku-5-5"].price.input == 1_500_000
    assert models["claude-99"].price is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[model", "models.toml"),
        ('[[server]]\nname = "x"\nwire = "carrier pigeon"', "wire"),
        ('[[server]]\nname = "openai"\nwire = "openai"', "two servers"),
        ('[[server]]\nname = "x"\nwire = "openai"', "no base_url"),
        (OLLAMA.replace("vision", "visionary"), "visionary"),
        (OLLAMA.replace('server = "ollama"', 'server = "other"'), "not there"),
        (OLLAMA.replace("4_096", "400_000"), "writes more"),
    ],
)
def test_a_file_that_is_wrong_stops_the_room_and_says_where(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(RosterInvalid, match=why):
        servers(tmp_path)


def test_every_bundled_row_says_where_its_price_was_read() -> None:
    known: Roster = roster.bundled()
    assert len({(row.server, row.id) for row in known.rows}) == len(known.rows)
    for row in known.rows:
        assert row.price is not None
        assert row.price.source.startswith("https://")
        assert row.price.output >= row.price.input
