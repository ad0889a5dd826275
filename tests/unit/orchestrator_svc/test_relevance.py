"""What a few words are about."""

from __future__ import annotations

import itertools
import json

import pytest

from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.relevance import Relevance

pytestmark = pytest.mark.requirement("AGT-2")


def spec(name: str, description: str = "", *parameters: str) -> ToolSpec:
    schema = {"type": "object", "properties": {each: {"type": "string"} for each in parameters}}
    return ToolSpec(name=name, description=description, schema=json.dumps(schema))


SPECS = (
    spec("shop__list_invoices", "Shows the bills of a customer.", "customerNumber"),
    spec("home__set_heating", "Sets how warm a room is.", "room", "degrees"),
    spec("music__play", "Plays a song, or the café's playlist.", "title"),
    spec("desk__openTicket", "Opens a ticket for the room's owner.", "subject"),
    spec("wetter", "今天天气预报", "ort"),
)


@pytest.mark.parametrize(
    ("words", "best"),
    [
        ("turn up the heating, please", "home__set_heating"),
        ("Which INVOICE is not paid?", "shop__list_invoices"),
        ("the bill of mister Smith", "shop__list_invoices"),
        ("how many degrees", "home__set_heating"),
        ("customer 12", "shop__list_invoices"),
        ("play the cafe playlist", "music__play"),
        ("a ticket", "desk__openTicket"),
        ("明天天气", "wetter"),
    ],
)
def test_words_find_what_is_called_or_described_so(words: str, best: str) -> None:
    assert Relevance(SPECS).ranked(words, least=0.5)[0] == best


@pytest.mark.parametrize("words", ["", "?!", "what is it for, and how are you", "quantum"])
def test_words_that_say_nothing_find_nothing(words: str) -> None:
    assert Relevance(SPECS).ranked(words, least=0.0) == ()


def test_a_name_says_more_than_a_description() -> None:
    found = Relevance(SPECS).ranked("room heating", least=0.0)
    assert found == ("home__set_heating", "desk__openTicket")
    assert Relevance(SPECS).ranked("room heating", least=0.5) == found[:1]


def test_the_order_of_actions_changes_nothing() -> None:
    twins = (spec("b", "Waters plants."), spec("a", "Waters plants."), spec("c", "Cuts plants."))
    ranked = {Relevance(each).ranked("water plants", least=0.0) for each in itertools.permutations(twins)}
    assert ranked == {("a", "b", "c")}


def test_of_a_long_text_the_end_counts() -> None:
    assert Relevance(SPECS).ranked("invoice " + "x " * 4_000 + "heating", least=0.0) == ("home__set_heating",)


def test_no_actions_are_about_nothing() -> None:
    assert Relevance(()).ranked("anything", least=0.0) == ()
