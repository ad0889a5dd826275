"""Finding places, and the way to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator_svc.material import Manner
from orchestrator_svc.tools.places import gazetteer
from orchestrator_svc.tools.places.found import Around, Kind
from orchestrator_svc.tools.places.gazetteer import Gazetteer
from orchestrator_svc.tools.places.overpass import question
from orchestrator_svc.tools.places.spot import HERE, Spot, meters
from orchestrator_svc.tools.tool import Output, ToolFailure
from tests.unit.orchestrator_svc.kit import HERE as THERE
from tests.unit.orchestrator_svc.kit import NOW_US, kit, ran
from tests.unit.orchestrator_svc.outside import Answer

pytestmark = pytest.mark.requirement("TOOL-4")
ONLY: dict[str, dict[str, Any]] = {
    "overpass": {"photon_url": "", "nominatim_url": ""},
    "photon": {"overpass_url": "", "nominatim_url": ""},
    "nominatim": {"overpass_url": "", "photon_url": ""},
}
WAY = '{"origin": "Lisbon", "destination": "Porto, Portugal"}'


@pytest.mark.parametrize("source", ONLY)
async def test_places_come_nearest_first_with_address_distance_and_source(source: str) -> None:
    async with kit(**ONLY[source]) as (tools, _):
        answer = await ran(tools.get("location_search"), '{"location": "Lisbon", "type": "pharmacy"}')
    assert isinstance(answer, Output)
    lines = answer.content.splitlines()
    assert lines[0] == "Within 2.0 km of Lisbon, Portugal:"
    assert lines[1].startswith("1. Farmácia Perto (pharmacy); 52 m")
    assert lines[-1] == "Source: OpenStreetMap, ODbL"
    assert "Outside the radius" not in answer.content
    assert "A Farmácia" not in answer.content  # a restaurant
    assert answer.sources[0].fetched_at_us == NOW_US
    if source == "overpass":
        assert "Rua Longe 7, 1100-001 Lisboa" in answer.content
        assert "open Mo-Fr 09:00-19:00; +351 21 000 0000; https://perto.example" in answer.content
        assert "(pharmacy, no name)" in answer.content


async def test_radius_and_limit_are_honoured() -> None:
    async with kit() as (tools, there):
        near = '{"location": "Lisbon", "type": "pharmacy", "radius": 300, "limit": 1}'
        answer = await ran(tools.get("location_search"), near)
        assert isinstance(answer, Output)
        assert "2. " not in answer.content
        assert b"around%3A300%2C" in there.asked[0].body
        none = await ran(tools.get("location_search"), near.replace("300", "50"))
        assert isinstance(none, Output)
        assert none.content == "Nothing of that kind is known within 50 m of Lisbon, Portugal."


@pytest.mark.parametrize(
    ("kind", "tag"),
    [
        (Kind.RESTAURANT, '["amenity"="restaurant"]'),
        (Kind.GAS_STATION, '["amenity"="fuel"]'),
        (Kind.COFFEE, '["amenity"="cafe"]'),
        (Kind.PHARMACY, '["amenity"="pharmacy"]'),
        (Kind.GROCERY, '["shop"="supermarket"]'),
        (Kind.HOTEL, '["tourism"="hotel"]'),
        (Kind.ANY, '["amenity"]["name"]'),
    ],
)
def test_each_kind_of_place_is_asked_for_by_its_name_on_the_map(kind: Kind, tag: str) -> None:
    centre = Spot(latitude=1, longitude=2)
    asked = question(Around(centre=centre, query="", kind=kind, radius=500, limit=3))
    assert f"nwr{tag}" in asked
    assert "(around:500,1.000000,2.000000)" in asked


def test_words_cannot_break_out_of_the_question() -> None:
    centre = Spot(latitude=1, longitude=2)
    asked = question(Around(centre=centre, query='"];node(1);//\\', kind=Kind.ANY, radius=500, limit=3))
    inside = asked.split('["name"~"')[1].split('",i]')[0]
    assert '"' not in inside.replace('\\"', "")
    assert inside.endswith("\\\\\\\\")


@pytest.mark.parametrize("source", ["photon", "nominatim"])
async def test_a_source_that_needs_words_refuses_their_absence_by_name(source: str) -> None:
    async with kit(**ONLY[source]) as (tools, there):
        answer = await ran(tools.get("location_search"), '{"location": "Lisbon"}')
        assert isinstance(answer, ToolFailure)
        assert (answer.reason, answer.field) == ("ARGUMENTS_INVALID", "query")
        assert not there.asked


async def test_a_search_around_the_person_needs_no_place() -> None:
    async with kit() as (tools, _):
        where = {HERE: '{"latitude": 38.7167, "longitude": -9.1333}'}
        answer = await ran(tools.get("location_search"), '{"type": "pharmacy"}', facts=where)
        assert isinstance(answer, Output)
        assert answer.content.startswith("Within 2.0 km of your location:")


async def test_the_way_by_valhalla() -> None:
    async with kit(osrm_url="") as (tools, there):
        answer = await ran(tools.get("get_directions"), WAY)
        assert isinstance(answer, Output)
        assert answer.content.splitlines() == [
            "Lisbon, Portugal to Porto, Portugal, driving: 312.7 km, 3 h 01 min",
            "1. Drive north on Rua Augusta. (310 m)",
            "2. Turn right onto A 1. (312.4 km)",
            "3. You have arrived at your destination.",
            "Source: Valhalla, OpenStreetMap, ODbL",
        ]
        assert json.loads(there.asked[0].body)["costing"] == "auto"
        miles = await ran(tools.get("get_directions"), WAY, manner=Manner(units="imperial"))
        assert isinstance(miles, Output)
        assert "194.3 mi" in miles.content


async def test_the_way_by_osrm() -> None:
    async with kit(valhalla_url="") as (tools, _):
        answer = await ran(tools.get("get_directions"), WAY)
    assert isinstance(answer, Output)
    assert answer.content.splitlines()[:5] == [
        "Lisbon, Portugal to Porto, Portugal, driving: 312.7 km, 2 h 49 min",
        "1. Start on Rua Augusta (310 m)",
        "2. Turn left onto A 1 (312.0 km)",
        "3. Enter the roundabout and take exit 2 onto Avenida (400 m)",
        "4. Arrive on Praça",
    ]


@pytest.mark.parametrize(
    ("mode", "costing"),
    [("driving", "auto"), ("walking", "pedestrian"), ("bicycling", "bicycle"), ("transit", "multimodal")],
)
async def test_every_way_of_going_is_honoured(mode: str, costing: str) -> None:
    async with kit(valhalla_transit=True) as (tools, there):
        answer = await ran(tools.get("get_directions"), json.dumps({**json.loads(WAY), "mode": mode}))
        assert isinstance(answer, Output)
        assert json.loads(there.asked[0].body)["costing"] == costing


@pytest.mark.parametrize(
    ("chosen", "mode", "there_is"),
    [
        ({}, "transit", "bicycling, driving, walking"),
        ({"valhalla_url": ""}, "walking", "driving"),
        ({"valhalla_url": "", "osrm_walking_url": f"{THERE}/osrm"}, "bicycling", "driving, walking"),
    ],
)
async def test_a_way_of_going_that_no_router_plans_is_refused_by_name(
    chosen: dict[str, Any], mode: str, there_is: str
) -> None:
    async with kit(**chosen) as (tools, there):
        answer = await ran(tools.get("get_directions"), json.dumps({**json.loads(WAY), "mode": mode}))
        assert isinstance(answer, ToolFailure)
        assert (answer.reason, answer.field) == ("ACTION_NOT_CONFIGURED", "mode")
        assert there_is in answer.message
        assert not there.asked


@pytest.mark.parametrize(
    ("chosen", "path", "body"),
    [
        (
            {"osrm_url": ""},
            "/valhalla/route",
            b'{"error_code":442,"error":"No path could be found for input"}',
        ),
        (
            {"valhalla_url": ""},
            "/osrm/route/v1/driving/-9.133300,38.716700;-8.610000,41.150000",
            b'{"code":"NoRoute","message":"Impossible route between points"}',
        ),
    ],
)
async def test_no_way_is_said_and_not_invented(chosen: dict[str, str], path: str, body: bytes) -> None:
    async with kit(**chosen) as (tools, there):
        there.answers[path] = Answer(status=400, body=body)
        answer = await ran(tools.get("get_directions"), WAY)
        assert isinstance(answer, ToolFailure)
        assert (answer.field, answer.retryable) == ("destination", False)
        assert "no way" in answer.message


async def test_an_address_that_the_gazetteer_lacks_is_looked_up() -> None:
    async with kit() as (tools, there):
        answer = await ran(tools.get("get_directions"), '{"origin": "Lisbon", "destination": "Rua Perto 3"}')
        assert isinstance(answer, Output)
        assert "to Farmácia Perto, Rua Perto 3, 1100-002 Lisboa, Portugal" in answer.content
        assert [asked.path for asked in there.asked] == ["/photon/api", "/valhalla/route"]
        assert there.asked[0].query["lat"] == "38.71670"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Lisbon", "Lisbon, Portugal"),
        ("lisboa", "Lisbon, Portugal"),
        ("Paris", "Paris, France"),
        ("paris, texas", "Paris, Texas, United States"),
        ("Paris, US", "Paris, Texas, United States"),
        ("Porto", "Porto, Portugal"),  # and not Bordeaux, which somebody calls so
        ("MÜNCHEN", "Munich, Germany"),
        ("Munchen", "Munich, Germany"),
    ],
)
async def test_cities_resolve_offline(name: str, first: str) -> None:
    async with kit(weather="") as (tools, there):
        answer = await ran(tools.get("location_search"), json.dumps({"location": name, "type": "hotel"}))
        assert isinstance(answer, Output)
        assert f"of {first}" in answer.content
        assert [asked.path for asked in there.asked] == ["/overpass/interpreter"]


def test_what_is_looked_up_has_neither_accents_nor_case() -> None:
    assert gazetteer.key("  São-Tomé ") == gazetteer.key("sao tome")
    assert Gazetteer.find.__doc__


def test_distances_follow_the_ground() -> None:
    lisbon, porto = Spot(latitude=38.7167, longitude=-9.1333), Spot(latitude=41.15, longitude=-8.61)
    assert meters(lisbon, porto) == pytest.approx(274_000, rel=0.01)
