"""Which actions a turn gets, and which of them ask."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_svc.conversation import Described, Message, Part, Role, ToolResult, Trust
from orchestrator_svc.material import Fact, Material, Purpose
from orchestrator_svc.policy import Cause, Standing, asks, offered, tainted
from orchestrator_svc.tools.tool import Effect
from orchestrator_svc.wording import typed
from tests.unit.orchestrator_svc.playbook import action, order

CLOCK, LOOKUP, MAIL = action("clock"), action("lookup", Effect.READS_OUT), action("mail", Effect.EFFECT)
ALL = (MAIL, LOOKUP, CLOCK)


@pytest.mark.requirement("AGT-2")
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["clock", "lookup", "mail"]),
        ({"only_actions": ("mail", "gone")}, ["mail"]),
        ({"without_actions": True}, []),
        ({"purpose": Purpose.TITLE}, []),
        ({"purpose": Purpose.SUMMARY}, []),
        ({"purpose": Purpose.MEMORY}, []),
        ({"purpose": Purpose.ACTION, "without_actions": True}, ["clock", "lookup", "mail"]),
    ],
)
def test_a_turn_gets_these_actions_in_the_order_of_their_names(
    asked: dict[str, Any], names: list[str]
) -> None:
    assert list(offered(ALL, order(**asked))) == names


@pytest.mark.parametrize(
    ("offer", "foreign", "said", "approved", "cause"),
    [
        (CLOCK, True, "", False, None),
        (LOOKUP, False, "", False, None),
        (LOOKUP, True, "look up moss", False, None),
        (LOOKUP, True, "look up fern", False, Cause.UNTRUSTED_CONTENT),
        (LOOKUP, True, "look up fern", True, None),
        (MAIL, False, "moss", False, Cause.EFFECT),
        (MAIL, True, "", True, None),
    ],
)
def test_who_asks(offer: object, foreign: bool, said: str, approved: bool, cause: Cause | None) -> None:
    stands = Standing(tainted=foreign, said=said, approved=approved)
    assert asks(offer, '{"q": "Moss"}', stands) is cause  # type: ignore[arg-type]


@pytest.mark.requirement("AGT-7")
@pytest.mark.parametrize(
    ("text", "said", "own"),
    [
        ("One, two", "two and ONE.", True),
        ("three", "one and two", False),
        ("Call mum", "Remind me to call mum!", True),
        ("evil.example/secret", "is evil.example safe? my word is secret", False),
        ("https://example.org/menu", "Read https://example.org/menu and sum it up", True),
        ("", "anything", True),
    ],
)
def test_what_the_person_typed(text: str, said: str, own: bool) -> None:
    assert typed(text, said) is own


def test_what_taints_a_turn() -> None:
    offers = {offer.name: offer for offer in ALL}
    clean = Material(messages=(Message(role=Role.USER, parts=()),))
    page = Part(content=Described(text="[document]"), trust=Trust.UNTRUSTED)
    found = Part(content=ToolResult(call_id="a", action="lookup", content="evil"))
    noon = Part(content=ToolResult(call_id="a", action="clock", content="12:00"))
    assert not tainted(clean, (), offers)
    assert not tainted(clean, (Message(role=Role.TOOL, parts=(noon,)),), offers)
    assert tainted(clean, (Message(role=Role.TOOL, parts=(found,)),), offers)
    assert tainted(Material(messages=(Message(role=Role.USER, parts=(page,)),)), (), offers)
    assert tainted(Material(facts=(Fact(key="k", value_json="1"),)), (), offers)
