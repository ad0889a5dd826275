"""Quantities in other units."""

from __future__ import annotations

import json

import pytest

from orchestrator_svc.tools.tool import Output, ToolFailure
from orchestrator_svc.tools.units import CONVERTER
from tests.unit.orchestrator_svc.kit import ran


async def converted(value: float, origin: str, wanted: str) -> Output | ToolFailure:
    return await ran(CONVERTER, json.dumps({"value": value, "from_unit": origin, "to_unit": wanted}))


@pytest.mark.requirement("TOOL-5")
@pytest.mark.parametrize(
    ("value", "origin", "wanted", "result"),
    [
        (26.2, "mile", "kilometer", "42.164813"),
        (100, "F", "C", "37.777778"),
        (-40, "°C", "fahrenheit", "-40"),
        (5, "lbs", "kg", "2.2679619"),
        (100, "km/h", "mph", "62.137119"),
        (1, "m2", "cm²", "10000"),
        (3, "square feet", "m2", "0.27870912"),
        (1, "cup", "ml", "236.58824"),
        (30, "mpg", "km/liter", "12.754311"),
        (1, "GB", "MB", "1000"),
        (90, "minutes", "hour", "1.5"),
    ],
)
async def test_a_quantity_in_another_unit(value: float, origin: str, wanted: str, result: str) -> None:
    answer = await converted(value, origin, wanted)
    assert isinstance(answer, Output)
    assert answer.content == f"{value:.12g} {origin} = {result} {wanted}"


@pytest.mark.parametrize(
    ("value", "origin", "wanted", "field"),
    [
        (1, "USD", "EUR", "from_unit"),
        (1, "m", "kg", "to_unit"),
        (1, "m", "m**9**9**9", "to_unit"),
        (1, "__class__", "m", "from_unit"),
        (1, "(1)", "m", "from_unit"),
        (1e308, "km", "nm", "value"),
    ],
)
async def test_what_cannot_be_converted_names_the_field(
    value: float, origin: str, wanted: str, field: str
) -> None:
    answer = await converted(value, origin, wanted)
    assert isinstance(answer, ToolFailure)
    assert (answer.field, answer.reason) == (field, "ARGUMENTS_INVALID")
