from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict
from rich.console import Console

from chassis import strongbox
from chassis.keys import KeyRefused
from chassis.settings import Settings
from mesh import secret
from mesh.errors import PlaceUnsafe, SecretUnfit
from mesh.places import Places

pytestmark = pytest.mark.requirement("SAFE-5")

VALUE = "sk-planted-canary-0815"


class RoomSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="LLM_")

    data_dir: Path = Field(description="d")
    keys_dir: Path = Field(description="k")
    openai_key: SecretStr = Field(default=SecretStr(""), description="s")
    name: str = Field(default="", description="n")


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places(data=tmp_path / "data", run=tmp_path / "run")
    monkeypatch.setenv("LLM_DATA_DIR", str(places.data))
    monkeypatch.setenv("LLM_KEYS_DIR", str(places.keys))
    return places


def put(where: Places, name: str = "LLM_OPENAI_KEY", value: str = VALUE) -> str:
    out = io.StringIO()
    assert secret.put(where, name, Console(file=out), ask=lambda _: f"{value}\n") == 0
    return out.getvalue()


def listed(where: Places) -> list[str]:
    out = io.StringIO()
    secret.names(where, Console(file=out))
    return out.getvalue().split()


def test_a_room_reads_what_was_set_and_nothing_on_the_disk_shows_it(where: Places) -> None:
    assert VALUE not in put(where)
    assert listed(where) == ["LLM_OPENAI_KEY"]
    assert RoomSettings.read().openai_key.get_secret_value() == VALUE
    assert VALUE not in repr(RoomSettings.read())
    files = [path for path in where.data.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"secrets.enc", "secrets.key"}
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert where.data.stat().st_mode & 0o777 == where.keys.stat().st_mode & 0o777 == 0o700


def test_the_environment_wins_and_only_secret_settings_are_filled(
    where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(where)
    put(where, "LLM_NAME", "not for this")
    assert RoomSettings.read().name == ""
    monkeypatch.setenv("LLM_OPENAI_KEY", "from the environment")
    assert RoomSettings.read().openai_key.get_secret_value() == "from the environment"


def test_without_secrets_a_room_starts_as_it_is(where: Places) -> None:
    assert RoomSettings.read().openai_key.get_secret_value() == ""


def test_a_secret_is_replaced_and_removed(where: Places) -> None:
    put(where)
    put(where, value="another")
    put(where, "MEDIA_STORE_KEY", "third")
    assert RoomSettings.read().openai_key.get_secret_value() == "another"
    secret.remove(where, "LLM_OPENAI_KEY", Console(file=io.StringIO()))
    assert listed(where) == ["MEDIA_STORE_KEY"]
    with pytest.raises(SecretUnfit):
        secret.remove(where, "LLM_OPENAI_KEY", Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("name", "value"), [("lower", "x"), ("A B", "x"), ("", "x"), ("GOOD", ""), ("GOOD", " ")]
)
def test_what_cannot_be_kept_is_said(where: Places, name: str, value: str) -> None:
    with pytest.raises(SecretUnfit):
        put(where, name, value)


@contextmanager
def refused(where: Places) -> Iterator[None]:
    yield
    with pytest.raises(PlaceUnsafe):
        listed(where)
    with pytest.raises(PlaceUnsafe):
        put(where)
    with pytest.raises(KeyRefused):
        RoomSettings.read()


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_changed_byte_does_not_open(where: Places, at: int) -> None:
    put(where)
    file = where.data / strongbox.FILE
    with refused(where):
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(bytes(data))


def test_another_key_or_one_that_others_can_read_opens_nothing(where: Places) -> None:
    put(where)
    key = where.keys / strongbox.KEY
    with refused(where):
        key.chmod(0o640)
    with refused(where):
        key.chmod(0o600)
        key.write_bytes(bytes(32))
    key.unlink()
    with pytest.raises(KeyRefused, match="missing"):
        RoomSettings.read()


def test_commands_at_once_lose_nothing(where: Places) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: put(where, f"SECRET_{number}", str(number)), range(24)))
    assert len(listed(where)) == 24
