"""The weather, as Open-Meteo tells it."""

from __future__ import annotations

import pytest

from orchestrator_svc.material import Manner
from orchestrator_svc.tools.places.spot import HERE
from orchestrator_svc.tools.tool import Output, ToolFailure
from tests.unit.orchestrator_svc.kit import NOW_US, kit, ran
from tests.unit.orchestrator_svc.outside import Answer, recorded

pytestmark = pytest.mark.requirement("TOOL-3")
LISBON = '{"latitude": 38.7223, "longitude": -9.1393, "label": "Lisbon"}'


async def test_the_weather_now_carries_everything_and_its_source() -> None:
    async with kit() as (tools, there):
        answer = await ran(tools.get("get_weather"), '{"location": "38.7223, -9.1393"}')
    assert isinstance(answer, Output)
    assert answer.content == (
        "38.7223, -9.1393, 2027-01-15 08:00 (Europe/Lisbon): 14.3 °C, feels like 13.1 °C, light rain, "
        "humidity 81 %, wind 17.6 km/h from NW, precipitation 0.2 mm\nSource: Open-Meteo, CC BY 4.0"
    )
    (source,) = answer.sources
    assert (source.publisher, source.uri, source.fetched_at_us) == (
        "Open-Meteo",
        "https://open-meteo.com",
        NOW_US,
    )
    assert there.asked[0].query["latitude"] == "38.7223"
    assert "temperature_unit" not in there.asked[0].query


async def test_a_forecast_has_the_days_that_were_asked_for() -> None:
    async with kit() as (tools, there):
        answer = await ran(tools.get("get_forecast"), '{"location": "38.7,-9.1", "days": 2}')
        assert isinstance(answer, Output)
        assert answer.content.splitlines()[1:3] == [
            "2027-01-15: light rain, 10.4 to 15.2 °C, precipitation 4.1 mm (88 % likely), wind up to 24.1 km/h",
            "2027-01-16: overcast, 9.9 to 16.8 °C, precipitation 0 mm, wind up to 14 km/h",
        ]
        assert there.asked[0].query["forecast_days"] == "2"
        other = await ran(tools.get("get_forecast"), '{"location": "38.7,-9.1", "days": 7}')
        assert isinstance(other, ToolFailure)  # the reply has two days: it is not stretched
        assert other.reason == "PROVIDER_GARBAGE"


@pytest.mark.parametrize(("arguments", "units"), [('"units": "imperial"', ""), ('"units": ""', "imperial")])
async def test_units_are_those_asked_for_or_those_the_person_prefers(arguments: str, units: str) -> None:
    async with kit() as (tools, there):
        answer = await ran(
            tools.get("get_weather"), f'{{"location": "38.7,-9.1", {arguments}}}', manner=Manner(units=units)
        )
        assert isinstance(answer, Output)
        assert "°F" in answer.content
        assert "mph" in answer.content
        assert there.asked[0].query["temperature_unit"] == "fahrenheit"
        assert there.asked[0].query["precipitation_unit"] == "inch"


async def test_what_was_asked_a_moment_ago_is_not_asked_again() -> None:
    async with kit() as (tools, there):
        for units in ("metric", "metric", "imperial"):
            await ran(tools.get("get_weather"), f'{{"location": "38.7,-9.1", "units": "{units}"}}')
        assert len(there.asked) == 2


async def test_an_empty_place_is_where_the_person_is() -> None:
    async with kit() as (tools, there):
        answer = await ran(tools.get("get_weather"), "{}", facts={HERE: LISBON})
        assert isinstance(answer, Output)
        assert answer.content.startswith("Lisbon, ")
        nowhere = await ran(tools.get("get_weather"), "{}")
        assert isinstance(nowhere, ToolFailure)
        assert nowhere.field == "location"
        kept = await ran(tools.get("get_weather"), "{}", withheld=frozenset({HERE}))
        assert isinstance(kept, ToolFailure)
        assert (kept.reason, kept.field) == ("ACTION_FORBIDDEN", "location")
        assert len(there.asked) == 1


@pytest.mark.parametrize(
    ("place", "shown"),
    [("Zarahemla", "Paris, Île-de-France, France"), ("Zarahemla, Texas", "Paris, Texas, United States")],
)
async def test_a_place_that_the_gazetteer_lacks_is_looked_up(place: str, shown: str) -> None:
    async with kit() as (tools, there):
        answer = await ran(tools.get("get_weather"), f'{{"location": "{place}"}}')
        assert isinstance(answer, Output)
        assert answer.content.startswith(shown)
        assert there.asked[0].query["name"] == "Zarahemla"


async def test_a_place_nobody_knows_names_the_field() -> None:
    async with kit() as (tools, there):
        there.answers["/geocoding/v1/search"] = Answer(body=b'{"generationtime_ms":0.3}')
        answer = await ran(tools.get("get_weather"), '{"location": "Zarahemla"}')
        assert isinstance(answer, ToolFailure)
        assert (answer.reason, answer.field) == ("ARGUMENTS_INVALID", "location")


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "PROVIDER_REFUSED", False),
        (403, "PROVIDER_REFUSED", False),
        (429, "PROVIDER_LIMITED", True),
        (503, "PROVIDER_FAILED", True),
    ],
)
async def test_a_refusal_says_whether_to_try_again(status: int, reason: str, retryable: bool) -> None:
    async with kit() as (tools, there):
        there.answers["/weather/v1/forecast"] = Answer(
            status=status, body=recorded("open_meteo/now.json").body
        )
        answer = await ran(tools.get("get_weather"), '{"location": "1,1"}')
        assert isinstance(answer, ToolFailure)
        assert (answer.reason, answer.retryable) == (reason, retryable)
