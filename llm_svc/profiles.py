"""What a built-in model can do is data: ``profiles.toml``, by the model's name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from llm_svc.providers.provider import Model

_DATA = Path(__file__).with_name("profiles.toml")


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model's abilities and sizes, in tokens."""

    context_tokens: int
    output_tokens: int
    tools: bool
    display_name: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    other: Profile
    models: dict[str, Profile]


def built_in_model(name: str) -> Model:
    """The built-in model of that name, as its profile describes it."""
    file = msgspec.convert(tomllib.loads(_DATA.read_text()), _File)
    profile = file.models.get(name, file.other)
    return Model(
        id=name,
        display_name=profile.display_name or name,
        provider="built-in",
        context_tokens=profile.context_tokens,
        output_tokens=profile.output_tokens,
        tools=profile.tools,
        local=True,
    )
