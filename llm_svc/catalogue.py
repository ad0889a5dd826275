"""Which models there are, and which provider answers for each. Never a silent other model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llm_svc.errors import ModelNotLocal, UnknownModel
from llm_svc.generation import Placement
from llm_svc.providers.provider import Model, ModelState, Provider

DEFAULT = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A model and the provider that answers for it, which calls it ``native``."""

    model: Model
    provider: Provider
    native: str


class Catalogue:
    """The models of the configured providers, in their order."""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        default: str = "",
        fallbacks: Sequence[str] = (),
        is_failing: Callable[[str], bool] = lambda provider: False,
    ) -> None:
        """``default`` is a model id; empty means the first model of the first provider.

        ``fallbacks`` are the models that may take another's place, in order. ``is_failing`` says of a provider
        that it is left alone at the moment.
        """
        self._providers = tuple(providers)
        self._default = default
        self._fallbacks = tuple(fallbacks)
        self._is_failing = is_failing

    async def models(self) -> Sequence[Model]:
        """Every model, the default first, then by id. Of two with one id the second has its provider before it."""
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

    async def substitutes(self, choice: Choice, placement: Placement) -> tuple[Choice, ...]:
        """The configured models that may answer in the place of that one, in order."""
        choices = await self._choices()
        found = (choices.get(name) for name in self._fallbacks)
        return tuple(
            each
            for each in found
            if each is not None
            and each.model.id != choice.model.id
            and (placement is Placement.ANY or each.model.local)
        )

    async def unknown_fallbacks(self) -> tuple[str, ...]:
        """The configured fallbacks that no provider has."""
        choices = await self._choices()
        return tuple(name for name in self._fallbacks if name not in choices)

    def _default_of(self, choices: dict[str, Choice]) -> str:
        return self._default or next(iter(choices), "")

    async def _choices(self) -> dict[str, Choice]:
        choices: dict[str, Choice] = {}
        for provider in self._providers:
            failing = self._is_failing(provider.name)
            for model in await provider.models():
                name = model.id if model.id not in choices else f"{provider.name}/{model.id}"
                state = ModelState.FAILING if failing else model.state
                shown = replace(model, id=name, state=state)
                choices.setdefault(name, Choice(model=shown, provider=provider, native=model.id))
        return choices

    async def close(self) -> None:
        """Close every provider, the last one first."""
        for provider in reversed(self._providers):
            await provider.close()
