"""Which model answers a turn: the strongest wish that the catalogue can meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator_svc.conversation import Placement
from orchestrator_svc.errors import UnknownModel
from orchestrator_svc.inputs import ModelStarted
from orchestrator_svc.material import ChoiceSource, ModelChoice, ModelFacts, Preference


def choose(
    models: Sequence[ModelFacts],
    preferences: Sequence[Preference],
    placement: Placement,
    *,
    pictures: bool = False,
) -> tuple[ModelChoice, ModelFacts]:
    """The model for a turn, and the catalogue's facts of it.

    Raises UnknownModel when the turn itself names a model that is not there, or there is none at all. Weaker
    wishes that are not there are passed over; the strongest of them is named in `skipped`. Where the window holds
    `pictures` a model that sees takes the place of a default that does not: never of a model that somebody
    wished for, and never a remote one of a local one. If none may, the picture has to be described.
    """
    known = {model.name: model for model in models}
    skipped = ""
    for wish in preferences:
        if (model := known.get(wish.model)) is not None:
            return _chosen(model, wish.source, skipped), model
        if wish.source is ChoiceSource.TURN:
            raise UnknownModel(wish.model)
        skipped = skipped or wish.model
    model = _default(models, placement)
    if pictures and not model.vision and (seeing := _seeing(models, model, placement)) is not None:
        return _chosen(seeing, ChoiceSource.VISION, skipped), seeing
    return _chosen(model, ChoiceSource.DEFAULT, skipped), model


def answering(choice: ModelChoice, told: ModelStarted, facts: ModelFacts | None) -> ModelChoice:
    """The choice as it turned out; `facts` are the catalogue's of the model that answers."""
    return replace(
        choice,
        input_price=facts.input_price if facts else 0,
        output_price=facts.output_price if facts else 0,
        model=told.model,
        provider=told.provider,
        local=told.local,
        fallback_from=told.fallback_from,
        from_cache=told.from_cache,
        source=ChoiceSource.VISION if told.vision_from else choice.source,
    )


def _seeing(models: Sequence[ModelFacts], instead_of: ModelFacts, placement: Placement) -> ModelFacts | None:
    """The model that sees pictures where that one does not: a local one if there is one."""
    at_home = instead_of.local or placement is Placement.LOCAL_ONLY
    able = [model for model in models if model.vision and (model.local or not at_home)]
    return min(able, key=lambda model: not model.local, default=None)


def _chosen(model: ModelFacts, source: ChoiceSource, skipped: str) -> ModelChoice:
    return ModelChoice(
        model=model.name,
        provider=model.provider,
        source=source,
        skipped=skipped,
        local=model.local,
        input_price=model.input_price,
        output_price=model.output_price,
    )


def _default(models: Sequence[ModelFacts], placement: Placement) -> ModelFacts:
    """The server's default; for content that must stay here the first local model, if the default is not."""
    ranked = sorted(models, key=lambda model: not model.default)
    if placement is Placement.LOCAL_ONLY:
        ranked.sort(key=lambda model: not model.local)
    if not ranked:
        raise UnknownModel("the catalogue is empty")
    return ranked[0]
