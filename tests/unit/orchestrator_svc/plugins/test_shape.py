"""Schemas of typed functions and of the class form, and arguments as their types say."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest

from orchestrator_svc.plugins.inside import Answer, Call, action
from orchestrator_svc.plugins.inside.actions import actions, performed
from orchestrator_svc.plugins.inside.shape import bound, of_type, parameters

pytestmark = pytest.mark.requirement("TOOL-6")
CALL = Call(context={}, now=0.0, language="", time_zone="", progress=lambda message, fraction: None)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: Annotated[float, "Up"] = 0.0


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Literal["a", 2], {"enum": ["a", 2]}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            Annotated[int, "How many", {"minimum": 1}],
            {"type": "integer", "description": "How many", "minimum": 1},
        ),
        (Colour, {"enum": ["red"]}),
        (Any, {}),
    ],
)
def test_a_type_has_its_schema(hint: Any, schema: dict[str, Any]) -> None:
    assert of_type(hint) == schema


def test_arguments_become_what_their_types_say() -> None:
    def draw(
        point: Point, colour: Colour = Colour.RED, more: list[Point] | None = None, *, call: Call
    ) -> None:
        """Draws."""

    schema = parameters(draw)
    assert schema["required"] == ["point"]
    assert schema["properties"]["colour"] == {"enum": ["red"], "default": "red"}
    assert "call" not in schema["properties"]
    given = bound(draw, {"point": {"x": 1}, "colour": "red", "more": [{"x": 2, "y": 3}]}, CALL)
    assert given == {"point": Point(1), "colour": Colour.RED, "more": [Point(2, 3.0)], "call": CALL}


def test_a_type_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="no form in JSON"):
        of_type(complex)


def module(**things: Any) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(things)
    return made


def of_class(**parts: Any) -> Any:
    return type("Agent", (), {"__module__": "made", **parts})


@pytest.mark.requirement("AGT-8")
@pytest.mark.parametrize(
    "told",
    [
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        {"properties": {"city": {"type": "string"}}, "required": ["city"]},
        {"city": {"type": "string", "required": True}},
        {"city": {"type": "str", "required": True}},
    ],
)
@pytest.mark.parametrize("kind", ["attribute", "method", "property"])
def test_the_class_form_is_read_in_every_way_it_is_written(told: dict[str, Any], kind: str) -> None:
    def perform(self: Any, name: str, context: Any, parameters: Any) -> dict[str, Any]:
        return {"result": [name, context.get("a"), parameters], "context_updates": {"b": 1}}

    ways: dict[str, Callable[[Any], Any]] = {
        "attribute": lambda value: value,
        "method": lambda value: lambda self: value,
        "property": lambda value: property(lambda self: value),
    }
    way = ways[kind]
    parts = {
        "capabilities": way(["plan"]),
        "plan_description": way("Plans."),
        "plan_parameters": way(told),
        "execute": perform,
    }
    found = actions(module(Agent=of_class(**parts)))
    assert found["plan"].described.description == "Plans."
    assert found["plan"].described.schema == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }
    call = Call(context={"a": 2}, now=0.0, language="", time_zone="", progress=CALL.progress)
    answer = performed(found["plan"], {"city": "Rome"}, call)
    assert (answer.result, answer.context_updates) == (["plan", 2, {"city": "Rome"}], {"b": 1})


@pytest.mark.requirement("AGT-8")
def test_execute_may_wait_and_answer_an_object() -> None:
    class Told:
        result = "done"
        context_updates = None
        next_actions = ("next",)
        background_tasks = ()

    async def execute(self: Any, name: str, context: Any, parameters: Any) -> Told:
        return Told()

    found = actions(module(Agent=of_class(capabilities=("go",), execute=execute)))
    answer = performed(found["go"], {}, CALL)
    assert answer == Answer(result="done", next_actions=("next",))


def test_two_actions_of_one_name_are_refused() -> None:
    @action(name="one")
    def first() -> None:
        """Does."""

    @action(name="one")
    def second() -> None:
        """Does."""

    with pytest.raises(ValueError, match="two actions are called one"):
        actions(module(first=first, second=second))
