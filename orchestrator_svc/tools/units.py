"""convert_units: a quantity in other units. Knows no currencies: their rates change."""

from __future__ import annotations

import asyncio
import math
import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool, ToolFailure

if TYPE_CHECKING:
    from pint import Unit, UnitRegistry

# A unit is words, with at most one small power each: no expression that takes long to work out.
_UNIT = re.compile(r"[A-Za-zµμΩ°_]{1,24}([23²³])?( ?(\*|/|·| per | ) ?[A-Za-zµμΩ°_]{1,24}([23²³])?){0,3}")
_POWER = re.compile(r"(?<=[A-Za-z])([23])(?![A-Za-z0-9])")
_TYPED = str.maketrans({"²": "2", "³": "3", "·": "*"})
_SPOKEN = {
    "c": "degC",
    "f": "degF",
    "k": "kelvin",
    "°c": "degC",
    "°f": "degF",
    "celsius": "degC",
    "fahrenheit": "degF",
    "degrees celsius": "degC",
    "degrees fahrenheit": "degF",
    "kmh": "km/h",
    "kph": "km/h",
    "mph": "mile/hour",
    "mpg": "mile/gallon",
    "knots": "knot",
    "lbs": "pound",
    "stones": "stone",
    "sqm": "m2",
    "square meters": "m2",
    "square metres": "m2",
    "square feet": "foot2",
    "sqft": "foot2",
    "square kilometers": "km2",
    "square miles": "mile2",
    "tbsp": "tablespoon",
    "tsp": "teaspoon",
    "fl oz": "fluid_ounce",
    "nautical miles": "nautical_mile",
    "nautical mile": "nautical_mile",
    "kb": "kilobyte",
    "mb": "megabyte",
    "gb": "gigabyte",
    "tb": "terabyte",
}


class Conversion(msgspec.Struct, forbid_unknown_fields=True):
    """What to convert."""

    value: Annotated[float, msgspec.Meta(description="The number")]
    from_unit: Annotated[
        str, msgspec.Meta(min_length=1, max_length=40, description='Its unit, like "mile" or "km/h"')
    ]
    to_unit: Annotated[
        str, msgspec.Meta(min_length=1, max_length=40, description='The wanted unit, like "km"')
    ]


async def _convert(arguments: Conversion, setting: Setting) -> Output:
    registry = await asyncio.to_thread(known_units)
    return Output(content=_converted(registry, arguments))


def _converted(registry: UnitRegistry[Any], asked: Conversion) -> str:
    import pint

    origin = _unit(registry, asked.from_unit, "from_unit")
    wanted = _unit(registry, asked.to_unit, "to_unit")
    try:
        result = registry.Quantity(asked.value, origin).to(wanted).magnitude
    except pint.DimensionalityError as error:
        raise ToolFailure(
            f"{asked.from_unit} cannot be converted to {asked.to_unit}: they measure different things.",
            reason=Reason.ARGUMENTS_INVALID,
            field="to_unit",
        ) from error
    except (OverflowError, ZeroDivisionError, pint.PintError) as error:
        raise _out_of_range() from error
    if not math.isfinite(result):
        raise _out_of_range()
    return f"{asked.value:.12g} {asked.from_unit} = {result:.8g} {asked.to_unit}"


def _unit(registry: UnitRegistry[Any], asked: str, field: str) -> Unit:
    import pint

    name = _SPOKEN.get(asked.strip().casefold(), asked.strip())
    readable = name in _SPOKEN.values() or _UNIT.fullmatch(name)
    try:
        if not readable:
            raise pint.UndefinedUnitError(asked)
        return registry.parse_units(_POWER.sub(r"**\1", name.translate(_TYPED)))
    except (pint.PintError, ValueError, TypeError, KeyError, AttributeError, SyntaxError) as error:
        raise ToolFailure(
            f"No unit is called {asked[:40]!r}.", reason=Reason.ARGUMENTS_INVALID, field=field
        ) from error


def _out_of_range() -> ToolFailure:
    return ToolFailure("The number is too large.", reason=Reason.ARGUMENTS_INVALID, field="value")


@cache
def known_units() -> UnitRegistry[Any]:
    """Imported and built when first asked: 0.4 s that no start should wait for."""
    from pint import UnitRegistry

    return UnitRegistry(cache_folder=None, autoconvert_offset_to_baseunit=True)


CONVERTER = Tool(
    name="convert_units",
    description="Converts a quantity from one unit to another: length, weight, temperature, volume, speed.",
    arguments=Conversion,
    perform=_convert,
    agent="converter",
    effect=Effect.NONE,
    timeout=10.0,
    examples=(
        Example(
            request="How many kilometers are 26.2 miles?",
            arguments={"value": 26.2, "from_unit": "mile", "to_unit": "kilometer"},
        ),
    ),
)
