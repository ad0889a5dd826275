"""Which model answers a turn: the strongest wish that the catalogue can meet."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator_svc.conversation import Placement
from orchestrator_svc.errors import UnknownModel
from orchestrator_svc.material import ChoiceSource, ModelChoice, ModelFacts, Preference


def choose(
    models: Sequence[ModelFacts], preferences: Sequence[Preference], placement: Placement
) -> tuple[ModelChoice, ModelFacts]:
    """The model for a turn, and the catalogue's facts of it.

    Raises UnknownModel when the turn itself names a model that is not there, or there is none at all. Weaker
    wishes that are not there are passed over; the strongest of them is named in `skipped`.
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
    return _chosen(model, ChoiceSource.DEFAULT, skipped), model


def _chosen(model: ModelFacts, source: ChoiceSource, skipped: str) -> ModelChoice:
    return ModelChoice(
        model=model.name, provider=model.provider, source=source, skipped=skipped, local=model.local
    )


def _default(models: Sequence[ModelFacts], placement: Placement) -> ModelFacts:
    """The server's default; for content that must stay here the first local model, if the default is not."""
    ranked = sorted(models, key=lambda model: not model.default)
    if placement is Placement.LOCAL_ONLY:
        ranked.sort(key=lambda model: not model.local)
    if not ranked:
        raise UnknownModel("the catalogue is empty")
    return ranked[0]
