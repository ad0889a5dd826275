"""Which actions a model is offered: all that fit, else the built-in ones and those that the conversation needs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator_svc import policy
from orchestrator_svc.conversation import Message, Part, Role, ToolCall, ToolResult, Trust, said
from orchestrator_svc.effects import Emit, Generate, Suspend, ToolFinished
from orchestrator_svc.errors import Reason
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.inputs import Started, ToolRequested
from orchestrator_svc.material import Answered, ApprovalAnswer, Decision, Purpose
from orchestrator_svc.policy import Offer
from orchestrator_svc.selection import Limits, Selection
from orchestrator_svc.tools.find_tools import FIND_TOOLS, NAME
from orchestrator_svc.tools.tool import Effect, Schema
from orchestrator_svc.turn import Turn
from tests.unit.orchestrator_svc.playbook import (
    MODEL,
    Play,
    action,
    answers,
    approval,
    begins,
    call,
    done,
    ended,
    generate,
    opened,
    order,
    runs,
    starts,
    suspends,
)

pytestmark = pytest.mark.requirement("AGT-2")
READS = 128_000
ROOM = 7  # beside four built-in actions, of eleven

ANIMALS = (
    *(
        "ant",
        "bear",
        "cat",
        "dog",
        "eel",
        "fox",
        "goat",
        "hen",
        "ibis",
        "jay",
        "koala",
        "lynx",
        "mole",
        "newt",
    ),
    *("owl", "pig", "quail", "rat", "seal", "toad", "urchin", "viper", "wasp", "yak", "zebra"),
)


def added(name: str, description: str = "", **rest: object) -> Offer:
    """An action of a server."""
    offer = action(name)
    told = replace(offer.spec, description=description or f"Feeds the {name.rpartition('_')[2]}.")
    return replace(offer, spec=told, agent="zoo", added=True, **rest)  # type: ignore[arg-type]


FINDS = replace(action(NAME), spec=FIND_TOOLS.spec, schema=Schema(FIND_TOOLS.schema))
BUILT_IN = (action("calculate"), action("current_time"), FINDS, action("remember"))
ZOO = tuple(added(f"feed_{each}") for each in ANIMALS)
LIMITS = Limits(actions=len(BUILT_IN) + ROOM)


def selection(
    *offers: Offer, limits: Limits = LIMITS, reads: int = READS, seen: Iterable[Message] = ()
) -> Selection:
    made = Selection(policy.offered((*BUILT_IN, *(offers or ZOO)), order()), limits, reads)
    made.see(seen)
    return made


def names(chosen: Selection) -> list[str]:
    return [offer.name for offer in chosen.offered]


def beside(chosen: Selection) -> list[str]:
    """The offered ones that are not built in."""
    return names(chosen)[len(BUILT_IN) :]


def tokens(offer: Offer) -> int:
    return Gauge().text(offer.spec.name + offer.spec.description + offer.spec.schema)


def person(text: str) -> Message:
    return Message(role=Role.USER, parts=(said(text),))


def calls(*made: ToolCall) -> Message:
    return Message(role=Role.ASSISTANT, parts=tuple(Part(content=each) for each in made))


def finding(query: str, limit: int = 5) -> ToolCall:
    return ToolCall(call_id=query, action=NAME, arguments=json.dumps({"query": query, "limit": limit}))


# -- the budget ------------------------------------------------------------------------------------------


def test_all_are_offered_in_the_order_of_names_while_they_fit_whatever_is_said() -> None:
    few = ZOO[:ROOM]
    wanted = sorted(each.name for each in (*BUILT_IN, *few) if each.name != NAME)
    assert names(selection(*few)) == wanted
    assert names(selection(*few, seen=[person("feed the yak"), calls(finding("goat"))])) == wanted
    assert list(selection(*few).allowed) == wanted, "there is nothing to find"


def test_one_more_than_fits_and_only_what_is_needed_is_offered() -> None:
    assert names(selection(*ZOO[: ROOM + 1])) == sorted(each.name for each in BUILT_IN)


def test_their_tokens_are_a_limit_too() -> None:
    one, fixed = tokens(ZOO[0]), sum(map(tokens, BUILT_IN))
    assert 10 * one > fixed, "what is left for them is more than half"
    animals = [added(f"feed_{letter}") for letter in "abcdefghijk"]
    reads = int((fixed + 10.5 * one) / LIMITS.share)
    roomy = Limits(actions=100)
    assert len(names(selection(*animals[:10], limits=roomy, reads=reads))) == len(BUILT_IN) - 1 + 10
    assert beside(selection(*animals, limits=roomy, reads=reads)) == []


def test_however_small_the_limit_some_are_offered_beside_the_built_in_ones() -> None:
    told = [calls(*(call(each, f"feed_{each}") for each in ANIMALS))]
    assert len(beside(selection(limits=Limits(actions=1), seen=told))) == 4
    small = selection(reads=2_000, seen=told)  # the built-in actions alone take more than 15 % of it
    assert sum(map(tokens, BUILT_IN)) > 300
    assert 1 <= len(beside(small)) <= 4


def test_what_was_seen_never_exceeds_the_limit() -> None:
    chance = random.Random(7)
    for _ in range(200):
        chosen = selection()
        for _ in range(30):
            one, other = chance.sample(ANIMALS, 2)
            chosen.see(
                chance.choice(
                    (
                        [person(f"{one} and {other}")],
                        [calls(call("c", f"feed_{one}"))],
                        [calls(finding(f"feed {one}", 8), finding(other))],
                    )
                )
            )
            assert names(chosen)[: len(BUILT_IN)] == sorted(each.name for each in BUILT_IN)
            assert len(set(names(chosen))) == len(names(chosen)) <= LIMITS.actions


def test_an_action_longer_than_the_room_is_offered_alone_and_one_longer_than_a_quarter_never() -> None:
    long, endless = added("long", "word " * 4_000), added("endless", "word " * 40_000)
    chosen = selection(*ZOO, long, endless, limits=Limits(actions=20, share=0.05), reads=30_000)
    chosen.see([calls(call("a", "feed_cat")), calls(call("b", "long"))])
    assert beside(chosen) == ["long"]
    chosen.see([calls(call("c", "endless")), person("endless word"), calls(finding("endless word"))])
    assert "endless" not in names(chosen)
    refused = chosen.refusal("endless")
    assert refused is not None
    assert (refused.reason, refused.retryable) == (Reason.ACTION_NOT_OFFERED, False)


# -- need ------------------------------------------------------------------------------------------------


def test_the_persons_words_a_search_and_a_call_add_what_they_name_at_the_end() -> None:
    chosen = selection()
    fixed = names(chosen)
    chosen.see([person("Has the zebra eaten?")])
    assert names(chosen) == [*fixed, "feed_zebra"]
    chosen.see([calls(finding("owl"))])
    assert names(chosen) == [*fixed, "feed_zebra", "feed_owl"]
    chosen.see([calls(call("c", "feed_ant"))])
    assert names(chosen) == [*fixed, "feed_zebra", "feed_owl", "feed_ant"]
    chosen.see([person("thanks"), person("and the zebra?")])
    assert names(chosen) == [*fixed, "feed_zebra", "feed_owl", "feed_ant"]


def test_only_the_persons_own_words_choose() -> None:
    page = Message(role=Role.USER, parts=(said("feed the zebra", Trust.UNTRUSTED),))
    result = ToolResult(call_id="c", action="calculate", content="feed the zebra")
    model = Message(
        role=Role.ASSISTANT, parts=(said("feed the zebra", Trust.UNTRUSTED), Part(content=result))
    )
    assert beside(selection(seen=[page, model])) == []


def test_words_that_name_everything_add_a_few_at_most() -> None:
    assert len(beside(selection(seen=[person("feed them all")]))) == ROOM // 2


def test_words_that_a_built_in_action_answers_add_nothing() -> None:
    clock = replace(
        BUILT_IN[1], spec=replace(BUILT_IN[1].spec, description="Tells the current time. now time")
    )
    chosen = Selection({each.name: each for each in (clock, FINDS, *ZOO)}, LIMITS, READS)
    chosen.see([person("the current time")])
    assert [each.name for each in chosen.offered] == ["current_time", NAME]


def test_when_it_is_full_half_is_let_go_and_what_was_called_stays() -> None:
    chosen = selection(seen=[calls(call("c", "feed_ant"))])
    chosen.see([person(each) for each in ANIMALS[1:ROOM]])
    full = beside(chosen)
    assert full == [f"feed_{each}" for each in ANIMALS[:ROOM]]
    chosen.see([person("yak")])
    assert beside(chosen) == ["feed_ant", "feed_goat", "feed_yak"]
    chosen.see([person("zebra")])
    assert beside(chosen) == ["feed_ant", "feed_goat", "feed_yak", "feed_zebra"]


def test_what_was_called_goes_only_when_all_were_called() -> None:
    chosen = selection(seen=[calls(call("c", f"feed_{each}")) for each in ANIMALS[:ROOM]])
    chosen.see([calls(call("c", "feed_ant")), calls(call("c", "feed_yak"))])
    assert beside(chosen) == ["feed_ant", *(f"feed_{each}" for each in ANIMALS[2:ROOM]), "feed_yak"]


def test_equal_conversations_have_equal_actions_in_whatever_order_they_were_loaded() -> None:
    told = [person("cat and dog"), calls(finding("feed owl"), call("c", "feed_ant")), person("pig")]
    shuffled = list(ZOO)
    random.Random(3).shuffle(shuffled)
    assert names(selection(*shuffled, seen=told)) == names(selection(seen=told))


def test_a_turn_that_is_over_leaves_the_next_one_what_it_had() -> None:
    """The steps of a turn are one message afterwards."""
    steps = [calls(finding("feed owl")), calls(call("c", "feed_ant")), calls(call("d", "feed_bear"))]
    stored = calls(
        *(part.content for step in steps for part in step.parts if isinstance(part.content, ToolCall))
    )
    assert names(selection(seen=[person("cat"), *steps])) == names(selection(seen=[person("cat"), stored]))


# -- finding ---------------------------------------------------------------------------------------------


def test_a_search_finds_in_all_that_is_allowed_and_all_it_finds_is_then_offered() -> None:
    chosen = selection()
    found = [spec.name for spec in chosen.find("feed the animals", 8).specs]
    assert len(found) == ROOM, "no more than can be offered"
    assert chosen.find("feed the animals", 8).more == len(ZOO) - ROOM
    chosen.see([person("cat"), calls(finding("feed the animals", 8))])
    assert sorted(beside(chosen)) == sorted(found)
    assert [spec.name for spec in chosen.find("calculate", 5).specs] == ["calculate"], "a built-in one too"


def test_a_search_that_finds_nothing_says_whose_actions_there_are() -> None:
    found = selection().find("quantum", 5)
    assert (found.specs, found.agents) == ((), ("zoo",))


def test_a_broken_search_adds_nothing() -> None:
    broken = [
        ToolCall(call_id="b", action=NAME, arguments=each) for each in ("{", "{}", '{"query": 3}', "\ud800")
    ]
    assert beside(selection(seen=[calls(*broken)])) == []


@pytest.mark.parametrize("how", ["narrowed", "not ready", "without"])
def test_what_policy_does_not_allow_is_neither_offered_nor_found(how: str) -> None:
    secret = added("feed_dragon", ready=how != "not ready")
    only = tuple(each.name for each in ZOO) if how == "narrowed" else ()
    asked = order(only_actions=only, without_actions=how == "without")
    allowed = policy.offered((*BUILT_IN, *ZOO, secret), asked)
    chosen = Selection(allowed, LIMITS, READS)
    chosen.see([person("feed the dragon"), calls(finding("dragon"), call("c", "feed_dragon"))])
    assert "feed_dragon" not in [*names(chosen), *chosen.allowed]
    assert chosen.find("dragon", 8).specs == ()
    assert (NAME in names(chosen)) is (how != "without"), "the search comes with whatever can be found"


# -- in a turn -------------------------------------------------------------------------------------------


def tooled(play: Play) -> list[tuple[list[str], bool]]:
    """What each step offered beside the built-in actions, and whether that was other than before."""
    steps = [effect for effect in play.all if isinstance(effect, Generate)]
    return [([spec.name for spec in step.tools[len(BUILT_IN) :]], step.retooled) for step in steps]


def turn() -> Turn:
    return Turn(order(), (*BUILT_IN, *ZOO), LIMITS)


WIDE = replace(MODEL, context_tokens=READS)


def test_what_the_model_finds_it_can_call_in_the_next_step() -> None:
    play = Play(turn())
    play >> Started(models=(WIDE,)) << generate("hi")
    play >> begins() << opened()
    play >> ToolRequested(call=finding("owl")) << (starts("owl", NAME), runs("owl", NAME))
    play >> done() << ()
    play >> answers("owl", "found") << (ended("owl", "done"), generate("found"))
    play >> ToolRequested(call=call("c", "feed_owl")) << (starts("c", "feed_owl"), runs("c", "feed_owl"))
    play >> done() << ()
    play >> answers("c", "fed") << (ended("c", "done"), generate("fed"))
    assert tooled(play) == [([], False), (["feed_owl"], True), (["feed_owl"], False)]


def test_an_action_that_was_not_offered_answers_so_and_is_offered_in_the_next_step() -> None:
    play = Play(turn())
    play >> Started(models=(WIDE,)) << generate("hi")
    play >> begins() << opened()
    play >> ToolRequested(call=call("a", "feed_owl")) << (starts("a", "feed_owl"), ended("a", "failed"))
    events = [effect.event for effect in play.all if isinstance(effect, Emit)]
    (failed,) = [event.error for event in events if isinstance(event, ToolFinished)]
    assert failed is not None
    assert failed.reason == Reason.ACTION_NOT_OFFERED
    play >> done() << generate(f"Error {Reason.ACTION_NOT_OFFERED}: {failed.message}")
    play >> ToolRequested(call=call("b", "feed_owl")) << (starts("b", "feed_owl"), runs("b", "feed_owl"))
    assert tooled(play) == [([], False), (["feed_owl"], True)]


def test_a_found_action_with_an_effect_still_asks_and_is_there_when_the_turn_goes_on() -> None:
    mail = replace(added("send_letter", "Sends a letter."), effect=Effect.EFFECT)
    offers = (*BUILT_IN, *ZOO, mail)
    play = Play(Turn(order(), offers, LIMITS))
    play >> Started(models=(WIDE,)) << generate("hi")
    play >> begins() << opened()
    play >> ToolRequested(call=finding("letter")) << (starts("letter", NAME), runs("letter", NAME))
    play >> done() << ()
    play >> answers("letter", "found") << (ended("letter", "done"), generate("found"))
    play >> ToolRequested(call=call("c", "send_letter")) << approval("c")
    play >> done() << suspends("c")
    suspended = play.end()[-1]
    assert isinstance(suspended, Suspend)
    denied = Answered(call=call("c", "send_letter"), answer=ApprovalAnswer(decision=Decision.DENY))
    resumption = replace(suspended.resumption, answers=(denied,))
    again = Play(Turn(order(resumption=resumption), offers, LIMITS))
    again >> Started(models=(WIDE,)) << (opened(), ended("c", "denied"))
    again << generate("Error ACTION_DENIED: The person said no.")
    assert tooled(again) == [(["send_letter"], False)]


def test_a_direct_call_finds_among_all_that_is_ready() -> None:
    asked = order(purpose=Purpose.ACTION, action=finding("feed"))
    direct = Turn(asked, (*BUILT_IN, *ZOO[:3], added("feed_dragon", ready=False)), Limits(actions=1))
    found = direct.find("feed the animals", 8)
    assert ({spec.name for spec in found.specs}, found.more) == ({each.name for each in ZOO[:3]}, 0)
