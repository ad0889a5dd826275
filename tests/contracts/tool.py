"""The contract of a tool, run on every one: `tests/contracts/test_tools.py` names them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import SOON
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Effect, Output, Schema, Setting, Tool, ToolFailure

NOW_US = 1_800_000_000_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


async def outcome(tool: Tool[Any], arguments: str) -> Output | ToolFailure:
    """What the tool answers; anything but an Output or a ToolFailure breaks the contract."""
    try:
        async with asyncio.timeout(SOON.total_seconds()):
            return await tool.run(arguments, Setting(now_us=NOW_US))
    except ToolFailure as failure:
        return failure


def tool_names_things(tool: Tool[Any]) -> list[str]:
    """Its arguments of text that name something which is there or not; a search takes any words."""
    texts = [
        name for name, rules in json.loads(tool.schema)["properties"].items() if rules.get("type") == "string"
    ]
    return [name for name in texts if name not in ("query", "topic")]


class ToolContract:
    """Subclass with a `tool` fixture."""

    def test_its_name_and_words_fit_the_contract(self, tool: Tool[Any]) -> None:
        assert tool.name.replace("_", "").isalnum()
        assert tool.name == tool.name.lower()
        assert 1 <= len(tool.name) <= 64
        assert 10 <= len(tool.description) <= 1_000
        assert isinstance(tool.effect, Effect)
        assert 0 < tool.timeout <= 60

    def test_its_schema_is_a_closed_object_schema_of_at_most_32_kib(self, tool: Tool[Any]) -> None:
        schema = json.loads(tool.schema)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert len(tool.schema.encode()) <= 32 * 1024
        assert tool.schema == tool.schema

    def test_every_argument_is_described(self, tool: Tool[Any]) -> None:
        for name, rules in json.loads(tool.schema)["properties"].items():
            assert rules.get("description"), name

    def test_it_has_examples_that_fit_the_schema_and_work(self, tool: Tool[Any]) -> None:
        assert tool.examples
        for example in tool.examples:
            arguments = json.dumps(example.arguments)
            assert Schema(tool.schema).fault(arguments) is None
            assert isinstance(asyncio.run(outcome(tool, arguments)), Output)

    def test_an_unknown_argument_is_a_fault_before_it_runs(self, tool: Tool[Any]) -> None:
        assert Schema(tool.schema).fault('{"no_such_argument": 1}') is not None

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(value=JSON)
    def test_whatever_it_is_given_it_answers_or_fails_in_its_own_way(
        self, tool: Tool[Any], value: object
    ) -> None:
        names = list(json.loads(tool.schema)["properties"])
        for arguments in (value, dict.fromkeys(names, value)):
            answer = asyncio.run(outcome(tool, json.dumps(arguments)))
            if isinstance(answer, ToolFailure):
                assert answer.message
                assert answer.reason
            else:
                assert answer.content

    async def test_a_failure_that_arguments_caused_names_the_field(self, tool: Tool[Any]) -> None:
        good = tool.examples[0].arguments
        for name in json.loads(tool.schema)["properties"]:
            answer = await outcome(tool, json.dumps({**good, name: {"no": "such thing"}}))
            assert isinstance(answer, ToolFailure)
            assert (answer.field, answer.reason) == (name, Reason.ARGUMENTS_INVALID)
        for name in tool_names_things(tool):
            answer = await outcome(tool, json.dumps({**good, name: "\u0001 no such thing \u0001"}))
            assert isinstance(answer, ToolFailure)
            assert (answer.field, answer.reason) == (name, Reason.ARGUMENTS_INVALID)

    async def test_it_leaves_nothing_running(self, tool: Tool[Any]) -> None:
        before = asyncio.all_tasks()
        for example in tool.examples:
            await outcome(tool, json.dumps(example.arguments))
        assert asyncio.all_tasks() == before
