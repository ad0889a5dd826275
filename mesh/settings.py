"""What an operator can set: by environment (MESH_…), or in `<data folder>/mesh.toml`; the environment wins.

A table of mesh.toml named after a room (`[llm]`), and any environment variable that starts with the room's
prefix (`LLM_…`), is handed to that room alone.
"""

import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.settings import Settings, environment
from mesh.errors import SettingsInvalid
from mesh.rooms import REPOSITORY, ROOMS

FILE = "mesh.toml"


class MeshSettings(Settings):
    """The settings of the `mesh` command and of the mesh that it starts."""

    model_config = SettingsConfigDict(env_prefix="MESH_")

    data_dir: Path = Field(
        default=Path(".mesh"), description="Folder of everything this mesh keeps; private, 0700."
    )
    port: int = Field(default=8080, ge=1, le=65535, description="The one public port.")
    bind: str = Field(default="127.0.0.1", description="Address the public port is bound to.")
    tls_proxy: bool = Field(
        default=False,
        description="A proxy in front speaks TLS, so `bind` may be other than loopback without it.",
    )
    model: str = Field(
        default="default", description="default, light, tiny, scripted, or a provider's model."
    )
    models_dir: Path | None = Field(
        default=None,
        description="Folder of the built-in weights, to share them; `<data>/models` when not set.",
    )
    hub: str = Field(
        default="https://huggingface.co",
        description="Where weights are looked for first; empty: never ask a hub.",
    )
    reference: bool = Field(
        default=True,
        description="Whether the first start gets the offline reference (43 MB); see docs/tools.md.",
    )
    origins: tuple[str, ...] = Field(
        default=(), description="Further web origins that may call the API; the mesh's own always may."
    )
    web_root: Path = Field(default=REPOSITORY / "envoy" / "web", description="Folder served at /.")
    envoy_config: Path = Field(
        default=REPOSITORY / "envoy" / "envoy.yaml", description="The edge's configuration."
    )
    envoy_binary: Path | None = Field(
        default=None, description="Envoy's program; the packaged one when not set."
    )
    envoy_threads: int = Field(default=1, ge=1, le=64, description="Worker threads of Envoy.")
    trusted_hops: int = Field(
        default=0, ge=0, le=16, description="Proxies of yours in front, each adding an X-Forwarded-For entry."
    )
    rate_per_second: int = Field(
        default=2000, ge=1, description="Calls a second the edge takes from one address."
    )
    rate_burst: int = Field(default=5000, ge=1, description="Calls the edge takes from one address at once.")
    reflection: bool | None = Field(
        default=None,
        description="Whether signed-in callers may read the contract by reflection; not set: on loopback only.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Form of the rooms' log lines.")
    log_bytes: int = Field(
        default=10_000_000, ge=10_000, description="Size at which a log file is rotated, in bytes."
    )
    log_files: int = Field(default=3, ge=0, le=100, description="Rotated log files kept for each room.")
    ready_seconds: float = Field(default=60, gt=0, description="How long a room may take until it serves.")
    drain_seconds: float = Field(
        default=25, ge=0, description="How long rooms may take to end; then they are killed."
    )
    context: dict[str, str] = Field(default={}, description="Settings of context_svc, without their prefix.")
    orchestrator: dict[str, str] = Field(
        default={}, description="Settings of orchestrator_svc, without their prefix."
    )
    llm: dict[str, str] = Field(default={}, description="Settings of llm_svc, without their prefix.")
    media: dict[str, str] = Field(default={}, description="Settings of media_svc, without their prefix.")

    @field_validator("bind")
    @classmethod
    def _an_address(cls, value: str) -> str:
        ip_address(value)
        return value

    @model_validator(mode="after")
    def _public_only_behind_tls(self) -> Self:
        if not ip_address(self.bind).is_loopback and not self.tls_proxy:
            raise ValueError("bind is not a loopback address; without TLS that needs tls_proxy = true")
        return self

    @property
    def reflects(self) -> bool:
        """Whether reflection passes the edge."""
        return ip_address(self.bind).is_loopback if self.reflection is None else self.reflection

    @classmethod
    def load(cls) -> Self:
        """Read the environment and the file in the data folder. Raises SettingsInvalid, naming each field."""
        told = environment()
        file = Path(told.get("MESH_DATA_DIR") or cls.model_fields["data_dir"].default) / FILE
        try:
            written = tomllib.loads(file.read_text("utf-8")) if file.exists() else {}
            return cls(**{key: value for key, value in written.items() if f"MESH_{key.upper()}" not in told})
        except (ValidationError, tomllib.TOMLDecodeError) as error:
            raise SettingsInvalid(_told(error), f"Correct the MESH_ variable, or {file}.") from error


def for_rooms(settings: MeshSettings) -> Mapping[str, Mapping[str, str]]:
    """Answer the variables the operator set for each room, by room."""
    return {room: _for_room(settings, room) for room in ROOMS}


def _for_room(settings: MeshSettings, room: str) -> Mapping[str, str]:
    prefix = f"{room.upper()}_"
    written: Mapping[str, str] = getattr(settings, room)
    return {f"{prefix}{key.upper()}": value for key, value in written.items()} | {
        key: value for key, value in environment().items() if key.startswith(prefix)
    }


def _told(error: ValidationError | tomllib.TOMLDecodeError) -> str:
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"{FILE} is not TOML: {error}."
    wrong = (f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors())
    return f"A setting cannot be used: {'; '.join(wrong)}."
