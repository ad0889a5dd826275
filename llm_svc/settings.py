"""The settings of llm_svc; ``docs/settings.md`` is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import Settings as _Settings


class Settings(_Settings):
    """What an operator may choose, from the environment as ``LLM_…``."""

    model_config = SettingsConfigDict(env_prefix="LLM_")

    listen: str = Field(description="Where to serve: unix:/path or host:port.")
    data_dir: Path = Field(description="Folder of the mesh; the engine keeps its state in engine/ below it.")
    keys_dir: Path = Field(description="Folder of the rooms' keys; rooms.jwks holds the public ones.")
    tls_dir: Path | None = Field(
        default=None,
        description="Folder of the certificates between rooms (ca.pem, NAME.pem, NAME.key; `mesh up` makes them);"
        " needed to serve or to dial at `host:port`.",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Form of the log lines.")
    context: str = Field(description="Address of context_svc, for the feed of revoked sign-ins.")
    default_model: str = Field(
        default="", description="Model that answers when nobody chose; empty: LLM_MODEL_NAME, else the first."
    )

    model_name: str = Field(default="built-in", description="Name of the built-in model.")
    model_file: Path | None = Field(default=None, description="Its weights (GGUF); empty: no built-in model.")
    model_sha256: str = Field(default="", description="SHA-256 of the weights, names the saved engine state.")
    engine_threads: int = Field(default=0, ge=0, le=256, description="Threads of the engine; 0: every core.")
    engine_parallel: int = Field(default=2, ge=1, le=16, description="Requests the engine serves at once.")
    engine_queue: int = Field(default=8, ge=0, le=256, description="Requests that may wait for the engine.")
    engine_prompt_cache_mib: int = Field(
        default=512, ge=0, description="Memory for the prompts of conversations that hold no place."
    )

    script: str = Field(
        default="", description="The scripted model: a script file, or true for the bundled one; empty: off."
    )

    anthropic_key: SecretStr = Field(default=SecretStr(""), description="Key of Anthropic; empty: not asked.")
    anthropic_key_file: Path | None = Field(
        default=None, description="File whose first line is it, relative to the data folder."
    )
    anthropic_models: str = Field(
        default="", description="Its models on offer, separated by commas; empty: all that are known."
    )
    anthropic_base_url: str = Field(
        default="", description="Another address of the Messages API, up to and with /v1; empty: Anthropic's."
    )

    cohere_key: SecretStr = Field(default=SecretStr(""), description="Key of Cohere; empty: not asked.")
    cohere_key_file: Path | None = Field(
        default=None, description="File whose first line is it, relative to the data folder."
    )
    cohere_models: str = Field(
        default="", description="Its models on offer, separated by commas; empty: all that are known."
    )
    cohere_base_url: str = Field(
        default="", description="Another address of its chat, up to and with /v2; empty: Cohere's."
    )

    openai_key: SecretStr = Field(
        default=SecretStr(""), description="Key of OpenAI, or of the server at LLM_OPENAI_BASE_URL."
    )
    openai_key_file: Path | None = Field(
        default=None, description="File whose first line is it, relative to the data folder."
    )
    openai_base_url: str = Field(
        default="",
        description="An OpenAI-compatible server, up to and with /v1; empty: OpenAI, if there is a key.",
    )
    openai_models: str = Field(
        default="", description="Its models, separated by commas; empty: all that are known of OpenAI."
    )
    openai_context_tokens: int = Field(
        default=32_768, ge=512, description="Tokens that models of a compatible server read at most."
    )
    openai_output_tokens: int = Field(default=4_096, ge=1, description="Tokens they write at most.")
    openai_vision: bool = Field(default=False, description="Whether they see pictures.")
    openai_local: bool = Field(default=False, description="Whether it runs on the machines of the mesh.")

    fallback_models: str = Field(
        default="",
        description="Models asked in this order when one that nobody chose fails before its first token; empty: none.",
    )
    response_cache_mib: int = Field(
        default=16,
        ge=0,
        le=1024,
        description="Memory for answers kept an hour at most, for accounts that asked for it; 0: none are kept.",
    )
