"""The settings of media_svc; ``docs/settings.md`` is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import Settings as _Settings

_MIB = 1024 * 1024


class Settings(_Settings):
    """What an operator may choose, from the environment as ``MEDIA_…``."""

    model_config = SettingsConfigDict(env_prefix="MEDIA_")

    listen: str = Field(description="Where to serve: unix:/path or host:port.")
    context: str = Field(description="Address of context_svc, for the feed of revoked sign-ins.")
    keys_dir: Path = Field(
        description="Folder of the rooms' keys: media.key, and rooms.jwks with all public."
    )
    tls_dir: Path | None = Field(
        default=None,
        description="Folder of the certificates between rooms (ca.pem, NAME.pem, NAME.key; `mesh up` makes them);"
        " needed to serve or to dial at `host:port`.",
    )
    data_dir: Path = Field(description="Folder of the mesh; media.db and media/ are made below it.")
    database: SecretStr = Field(
        default=SecretStr(""),
        description="sqlite:///file or postgresql://…; empty: media.db in MEDIA_DATA_DIR.",
    )
    store: str = Field(
        default="",
        description="Where files are kept: file:///folder, s3://…, gs://… or az://…; empty: media/blobs in"
        " MEDIA_DATA_DIR. Credentials come from the provider's own variables.",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Form of the log lines.")
    image_limit: int = Field(default=25 * _MIB, ge=1, description="Largest image, in bytes.")
    audio_limit: int = Field(default=100 * _MIB, ge=1, description="Largest sound file, in bytes.")
    document_limit: int = Field(default=100 * _MIB, ge=1, description="Largest document, in bytes.")
    quota: int = Field(
        default=10 * 1024 * _MIB,
        ge=0,
        description="Bytes one person may keep, uploads included; 0: no limit.",
    )
