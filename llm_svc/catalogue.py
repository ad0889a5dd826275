"""Which models there are, and which provider answers for each. Never a silent other model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_svc.errors import ModelNotLocal, UnknownModel
from llm_svc.generation import Placement
from llm_svc.providers.provider import Model, Provider

DEFAULT = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A model and the provider that answers for it."""

    model: Model
    provider: Provider


class Catalogue:
    """The models of the configured providers, in their order."""

    def __init__(self, providers: Sequence[Provider], *, default: str = "") -> None:
        """``default`` is a model id; empty means the first model of the first provider."""
        self._providers = tuple(providers)
        self._default = default

    async def models(self) -> Sequence[Model]:
        """Every model, the default first, then by id. Of two with one id the first provider's stands."""
        choices = await self._choices()
        default = self._default_of(choices)
        models = (choice.model for choice in choices.values())
        return sorted(models, key=lambda model: (model.id != default, model.id))

    async def default(self) -> str:
        """The id of the model that answers when nobody chose; empty when there is none."""
        return self._default_of(await self._choices())

    async def resolve(self, name: str, placement: Placement = Placement.ANY) -> Choice:
        """The model of that id, or the default one for ``default`` and the empty name.

        Raises UnknownModel for any other name, ModelNotLocal when the request must stay on this machine
        and the model does not.
        """
        choices = await self._choices()
        choice = choices.get(self._default_of(choices) if name in ("", DEFAULT) else name)
        if choice is None:
            raise UnknownModel
        if placement is Placement.LOCAL_ONLY and not choice.model.local:
            raise ModelNotLocal
        return choice

    def _default_of(self, choices: dict[str, Choice]) -> str:
        return self._default or next(iter(choices), "")

    async def _choices(self) -> dict[str, Choice]:
        choices: dict[str, Choice] = {}
        for provider in self._providers:
            for model in await provider.models():
                choices.setdefault(model.id, Choice(model=model, provider=provider))
        return choices

    async def close(self) -> None:
        """Close every provider, the last one first."""
        for provider in reversed(self._providers):
            await provider.close()
