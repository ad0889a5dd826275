"""Which model answers a turn."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestrator_svc.choice import choose
from orchestrator_svc.conversation import Placement
from orchestrator_svc.errors import UnknownModel
from orchestrator_svc.material import ChoiceSource, ModelFacts, Preference

pytestmark = pytest.mark.requirement("LLM-3")


def model(name: str, *, local: bool = False, vision: bool = False, default: bool = False) -> ModelFacts:
    return ModelFacts(name=name, context_tokens=1000, local=local, vision=vision, default=default)


HOME = model("home", local=True, default=True)
AWAY = model("away", default=True)
SEES_HOME = model("sees-home", local=True, vision=True)
SEES_AWAY = model("sees-away", vision=True)
RANKS = (ChoiceSource.TURN, ChoiceSource.SESSION, ChoiceSource.USER, ChoiceSource.SUGGESTION)


@pytest.mark.parametrize(("stronger", "weaker"), [*pairwise(RANKS)])
def test_the_stronger_wish_wins(stronger: ChoiceSource, weaker: ChoiceSource) -> None:
    wishes = (Preference(model="away", source=stronger), Preference(model="home", source=weaker))
    choice, facts = choose((HOME, AWAY), wishes, Placement.ANY)
    assert (choice.model, choice.source, facts) == ("away", stronger, AWAY)
    assert choice.explicit


def test_without_a_wish_the_default_answers() -> None:
    choice, _ = choose((SEES_AWAY, HOME), (), Placement.ANY)
    assert (choice.model, choice.source, choice.explicit) == ("home", ChoiceSource.DEFAULT, False)


def test_a_wish_of_the_turn_that_cannot_be_met_is_an_error_and_a_weaker_one_is_named() -> None:
    with pytest.raises(UnknownModel):
        choose((HOME,), (Preference(model="gone", source=ChoiceSource.TURN),), Placement.ANY)
    choice, _ = choose((HOME,), (Preference(model="gone", source=ChoiceSource.USER),), Placement.ANY)
    assert (choice.model, choice.skipped) == ("home", "gone")


def test_what_must_stay_here_is_answered_by_a_local_model_unless_somebody_chose() -> None:
    assert choose((AWAY, SEES_HOME), (), Placement.LOCAL_ONLY)[0].model == "sees-home"
    wish = (Preference(model="away", source=ChoiceSource.USER),)
    assert (
        choose((AWAY, HOME), wish, Placement.LOCAL_ONLY)[0].model == "away"
    )  # llm_svc refuses it, with a reason


@pytest.mark.parametrize(
    ("models", "placement", "expected"),
    [
        ((AWAY, SEES_AWAY), Placement.ANY, "sees-away"),
        ((AWAY, SEES_AWAY, SEES_HOME), Placement.ANY, "sees-home"),
        ((HOME, SEES_AWAY, SEES_HOME), Placement.ANY, "sees-home"),
        ((HOME, SEES_AWAY), Placement.ANY, "home"),
        ((AWAY, SEES_AWAY), Placement.LOCAL_ONLY, "away"),
        ((HOME,), Placement.ANY, "home"),
    ],
)
def test_a_model_that_sees_replaces_a_default_and_never_a_local_one_by_a_remote_one(
    models: tuple[ModelFacts, ...], placement: Placement, expected: str
) -> None:
    choice, facts = choose(models, (), placement, pictures=True)
    assert choice.model == facts.name == expected
    assert (choice.source is ChoiceSource.VISION) == facts.vision
    assert not choice.explicit


def test_a_model_that_somebody_chose_is_not_replaced_for_a_picture() -> None:
    wish = (Preference(model="away", source=ChoiceSource.SUGGESTION),)
    choice, _ = choose((SEES_HOME, AWAY), wish, Placement.ANY, pictures=True)
    assert (choice.model, choice.source) == ("away", ChoiceSource.SUGGESTION)


def test_a_default_that_sees_stays() -> None:
    seeing = model("first", vision=True, default=True)
    choice, _ = choose((seeing, SEES_HOME), (), Placement.ANY, pictures=True)
    assert (choice.model, choice.source) == ("first", ChoiceSource.DEFAULT)
