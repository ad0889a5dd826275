"""The settings of orchestrator_svc; ``docs/settings.md`` is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
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

    # What the agent may ask outside. Nothing here has a default that sends anything out.
    search: Literal["", "searxng", "brave", "tavily", "duckduckgo"] = Field(
        default="", description="Who searches the web: searxng, brave, tavily or duckduckgo; empty: nobody."
    )
    search_url: str = Field(default="", description="Address of your SearXNG; for the others their own.")
    search_key: SecretStr = Field(default=SecretStr(""), description="Key for brave or tavily.")
    search_key_file: Path | None = Field(default=None, description="File that holds SEARCH_KEY.")
    fetch_pages: bool = Field(
        default=False, description="Whether the agent may read a public web page that somebody names."
    )
    weather: Literal["", "open-meteo"] = Field(
        default="", description="Who tells the weather: open-meteo; empty: nobody."
    )
    weather_url: str = Field(
        default="https://api.open-meteo.com", description="Address of the forecasts, once WEATHER is set."
    )
    geocoding_url: str = Field(
        default="https://geocoding-api.open-meteo.com",
        description="Asked for places that the offline gazetteer lacks, once WEATHER is set; empty: nobody.",
    )
    weather_key: SecretStr = Field(default=SecretStr(""), description="Key of a paid Open-Meteo plan.")
    weather_key_file: Path | None = Field(default=None, description="File that holds WEATHER_KEY.")
    nominatim_url: str = Field(default="", description="A Nominatim, for addresses and places by name.")
    photon_url: str = Field(default="", description="A Photon, for addresses and places by name.")
    overpass_url: str = Field(
        default="", description="An Overpass interpreter, for places of a type around a point."
    )
    osrm_url: str = Field(default="", description="An OSRM for driving.")
    osrm_walking_url: str = Field(default="", description="An OSRM for walking.")
    osrm_bicycling_url: str = Field(default="", description="An OSRM for bicycling.")
    valhalla_url: str = Field(default="", description="A Valhalla, for driving, walking and bicycling.")
    valhalla_transit: bool = Field(default=False, description="Whether that Valhalla has timetables.")
    private_services: str = Field(
        default="",
        description="Which of these services may be on your own network or machine, separated by commas: search, "
        "weather, geocoding, nominatim, photon, overpass, osrm, valhalla.",
    )
    reference_dir: Path | None = Field(
        default=None, description="Folder of the offline reference and gazetteer; empty: none."
    )

    # What the operator adds to the actions.
    plugins_dir: Path | None = Field(
        default=None, description="Folder of plugins; `plugins` in the data folder when not set."
    )
    unsandboxed: bool = Field(
        default=False,
        description="Run plugins and local MCP servers even where there is no sandbox: they can then read and send "
        "whatever this room can.",
    )

    offered_actions: int = Field(
        default=24,
        ge=1,
        le=128,
        description="Actions that a model is offered at once; of more it gets the built-in ones and what it needs.",
    )
    offered_percent: int = Field(
        default=15,
        ge=1,
        le=50,
        description="Percent of what the model reads that their descriptions and schemas may take.",
    )

    @property
    def plugins(self) -> Path | None:
        """The folder of plugins, if there is one."""
        return self.plugins_dir or (self.data_dir / "plugins" if self.data_dir else None)

    def key(self, name: Literal["search", "weather"]) -> str:
        """The key called `name`, from its setting or its file. Raises OSError when the file cannot be read."""
        secret: SecretStr = getattr(self, f"{name}_key")
        file: Path | None = getattr(self, f"{name}_key_file")
        return file.read_text("utf-8").strip() if file else secret.get_secret_value()
