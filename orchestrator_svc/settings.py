"""The settings of orchestrator_svc; ``docs/settings.md`` is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Settings as _Settings


class Settings(_Settings):
    """What an operator may choose, from the environment as ``ORCHESTRATOR_…``."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_")

    listen: str = Field(description="Where to serve: unix:/path or host:port.")
    llm: str = Field(description="Address of llm_svc.")
    media: str = Field(default="", description="Address of media_svc; empty: turns read no files.")
    context: str = Field(default="", description="Address of context_svc, for the feed of revoked sign-ins.")
    data_dir: Path | None = Field(
        default=None, description="Folder of the mesh; this room keeps nothing in it."
    )
    keys_dir: Path = Field(
        description="Folder of the rooms' keys: orchestrator.key, and rooms.jwks with the public ones."
    )
    tls_dir: Path | None = Field(
        default=None,
        description="Folder of the certificates between rooms (ca.pem, NAME.pem, NAME.key; `mesh up` makes them);"
        " needed to serve or to dial at `host:port`.",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Form of the log lines.")
    warm_up: bool = Field(
        default=True, description="Let a local default model read the standing prompt before the first turn."
    )
