"""The servers that are configured, each with its key and its models: settings and roster put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_svc import keys
from llm_svc.errors import RosterInvalid
from llm_svc.providers import anthropic, cohere, openai
from llm_svc.providers.connection import Server
from llm_svc.providers.provider import Model
from llm_svc.roster import Roster, ServerRow, Wire, names
from llm_svc.settings import Settings

_URLS = {Wire.OPENAI: openai.URL, Wire.ANTHROPIC: anthropic.URL, Wire.COHERE: cohere.URL}


@dataclass(frozen=True, kw_only=True, slots=True)
class Configured:
    """A server and what it speaks; ``official`` is the provider's own."""

    wire: Wire
    server: Server
    official: bool = False


def configured(settings: Settings, roster: Roster, environment: Mapping[str, str]) -> tuple[Configured, ...]:
    """Every server with a key or an address, those of the settings first. Raises RosterInvalid."""
    standing = (_openai(settings, roster), _anthropic(settings, roster), _cohere(settings, roster))
    own = (_own(row, settings, roster, environment) for row in roster.servers)
    return (*(each for each in standing if each is not None), *own)


def _anthropic(settings: Settings, roster: Roster) -> Configured | None:
    key = keys.key(settings.anthropic_key, settings.anthropic_key_file, settings.data_dir)
    wanted, url = names(settings.anthropic_models), settings.anthropic_base_url
    return _standing(Wire.ANTHROPIC, key, url, wanted, roster) if key or url else None


def _cohere(settings: Settings, roster: Roster) -> Configured | None:
    key = keys.key(settings.cohere_key, settings.cohere_key_file, settings.data_dir)
    wanted, url = names(settings.cohere_models), settings.cohere_base_url
    return _standing(Wire.COHERE, key, url, wanted, roster) if key or url else None


def _openai(settings: Settings, roster: Roster) -> Configured | None:
    key = keys.key(settings.openai_key, settings.openai_key_file, settings.data_dir)
    wanted, url = names(settings.openai_models), settings.openai_base_url
    if not url:
        return _standing(Wire.OPENAI, key, url, wanted, roster) if key else None
    models = tuple(_compatible(name, settings) for name in wanted)
    return Configured(wire=Wire.OPENAI, server=Server(name="openai", base_url=url, models=models, key=key))


def _standing(wire: Wire, key: str, url: str, wanted: Sequence[str], roster: Roster) -> Configured:
    """One of the providers whose models are known; what another one reads and costs cannot be guessed."""
    name = wire.value
    models = roster.models(name, only=wanted)
    if unknown := set(wanted) - {model.id for model in models}:
        raise RosterInvalid(f"nothing is known of {sorted(unknown)} of {name}: describe it in models.toml")
    server = Server(name=name, base_url=url or _URLS[wire], models=models, key=key)
    return Configured(wire=wire, server=server, official=not url)


def _own(row: ServerRow, settings: Settings, roster: Roster, environment: Mapping[str, str]) -> Configured:
    if row.wire is not Wire.PYDANTIC_AI and not row.base_url:
        raise RosterInvalid(f"server {row.name!r} has no base_url")
    key = keys.server_key(row.name, row.key_file, environment, settings.data_dir)
    models = roster.models(row.name, local=row.local)
    return Configured(
        wire=row.wire, server=Server(name=row.name, base_url=row.base_url, models=models, key=key)
    )


def _compatible(name: str, settings: Settings) -> Model:
    return Model(
        id=name,
        display_name=name,
        provider="openai",
        context_tokens=settings.openai_context_tokens,
        output_tokens=settings.openai_output_tokens,
        vision=settings.openai_vision,
        local=settings.openai_local,
    )
