"""Settings: one frozen class per room, read once, from the environment and an optional file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import strongbox


class Settings(BaseSettings):
    """The root of a room's settings. A subclass sets ``env_prefix`` and declares fields with descriptions.

    A key of the file that no field has is refused; an error names the field and never repeats the value.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def read(cls, file: Path | None = None) -> Self:
        """Read the environment, then `file` for what it does not set, then the mesh's secrets for what is secret.

        Raises pydantic's ValidationError, and chassis.keys.KeyRefused when the secrets cannot be opened.
        """
        told = cls(_env_file=file)  # type: ignore[call-arg]  # pydantic-settings' own keyword, absent from the synthesized signature
        return told.model_copy(update=told._kept_secrets())

    def _kept_secrets(self) -> dict[str, SecretStr]:
        """What `mesh secret set` keeps for secret settings that nothing else sets."""
        data, keys = getattr(self, "data_dir", None), getattr(self, "keys_dir", None)
        if not isinstance(data, Path) or not isinstance(keys, Path):
            return {}
        names = {each.name.lower(): each.name for each in describe(type(self))}
        prefix = self.model_config.get("env_prefix", "").lower()
        kept = strongbox.read(data / strongbox.FILE, keys / strongbox.KEY)
        return {
            field: SecretStr(kept[names[prefix + field]])
            for field in type(self).model_fields
            if isinstance(value := getattr(self, field), SecretStr)
            and not value.get_secret_value()
            and names[prefix + field] in kept
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """One setting as the documentation shows it. `default` is text; "required" when there is none."""

    name: str
    type: str
    default: str
    description: str


def describe(settings: type[Settings]) -> list[Described]:
    """Every setting of a class, in the order it is declared, under its environment name."""
    prefix = settings.model_config.get("env_prefix", "")
    return [
        Described(
            name=f"{prefix}{name}".upper(),
            type=_type_name(field.annotation),
            default=_default(field.get_default(call_default_factory=False)),
            description=field.description or "",
        )
        for name, field in settings.model_fields.items()
    ]


def environment() -> Mapping[str, str]:
    """The process environment, read-only: for handing on to child processes."""
    return MappingProxyType(dict(os.environ))


def _type_name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        return "(secret)"
    return "" if value is None else str(value)
