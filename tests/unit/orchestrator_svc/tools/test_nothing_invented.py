"""No action invents: whatever its source does, what comes is its source's word or a failure with its reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from chassis.testing import SOON
from orchestrator_svc.tools.tool import Schema, ToolFailure
from tests.unit.orchestrator_svc.kit import HERE, kit, ran
from tests.unit.orchestrator_svc.outside import Answer, Outside

pytestmark = pytest.mark.requirement("TOOL-7")

# Each action with arguments that reach its source, by every adapter: what turns off the others, or all of them.
ARGUMENTS = {
    "web_search": '{"query": "moss"}',
    "get_weather": '{"location": "38.7, -9.1"}',
    "get_forecast": '{"location": "38.7, -9.1", "days": 2}',
    "location_search": '{"location": "38.7, -9.1", "type": "pharmacy"}',
    "get_directions": '{"origin": "38.7, -9.1", "destination": "41.1, -8.6"}',
    "fetch_page": '{"url": "https://example.org/news"}',
}
ADAPTERS: list[tuple[str, str, dict[str, Any]]] = [
    *(
        ("web_search", engine, {"search": engine, "search_url": f"{HERE}/{engine}"})
        for engine in ("searxng", "brave", "tavily", "duckduckgo")
    ),
    ("get_weather", "open-meteo", {}),
    ("get_forecast", "open-meteo", {}),
    ("location_search", "overpass", {"photon_url": "", "nominatim_url": ""}),
    ("location_search", "photon", {"overpass_url": "", "nominatim_url": ""}),
    ("location_search", "nominatim", {"overpass_url": "", "photon_url": ""}),
    ("get_directions", "valhalla", {"osrm_url": ""}),
    ("get_directions", "osrm", {"valhalla_url": ""}),
]
ABSENT: dict[str, dict[str, Any]] = {
    "web_search": {"search": ""},
    "get_weather": {"weather": ""},
    "get_forecast": {"weather": ""},
    "location_search": {"overpass_url": "", "photon_url": "", "nominatim_url": ""},
    "get_directions": {"osrm_url": "", "valhalla_url": ""},
    "knowledge_retrieval": {"reference_dir": None},
    "fetch_page": {"fetch_pages": False},
}
GARBAGE = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"7",
    b'"sunny, 22 degrees"',
    b"<html><body>Sorry, we are closed",
    b"\xff\xfe\x00\x01",
    b'{"results": [{"title": 1}]}',
    b'{"current": {"temperature_2m": "warm"}}',
    b'{"elements": [{"lat": "north"}]}',
    b'{"features": [{"geometry": {"coordinates": []}}]}',
    b'{"trip": {"summary": {}}}',
    b'{"code": "Ok", "routes": []}',
    b"[" * 100_000,
)


def _status(code: int) -> Callable[[Outside], None]:
    def happen(there: Outside) -> None:
        there.answers = dict.fromkeys(there.answers, Answer(status=code, body=b'{"ok": true}'))

    return happen


def _fault(name: str) -> Callable[[Outside], None]:
    def happen(there: Outside) -> None:
        there.fault = name

    return happen


FAULTS: dict[str, tuple[Callable[[Outside], None], str, bool]] = {
    "down": (_status(503), "PROVIDER_FAILED", True),
    "refuses": (_status(403), "PROVIDER_REFUSED", False),
    "limits": (_status(429), "PROVIDER_LIMITED", True),
    "redirects": (_status(302), "PROVIDER_REFUSED", False),
    "no http": (_fault("garbage"), "PROVIDER_GARBAGE", True),
    "cut off": (_fault("cut"), "PROVIDER_GARBAGE", True),
    "huge": (_fault("huge"), "RESULT_TOO_LARGE", False),
}
ids = [f"{action}-{adapter}" for action, adapter, _ in ADAPTERS]


@pytest.mark.parametrize("action", ABSENT)
async def test_an_action_whose_adapter_is_absent_says_how_to_turn_it_on(action: str) -> None:
    async with kit(**ABSENT[action]) as (tools, there):
        tool = tools.get(action)
        assert tool is not None
        assert not tool.ready
        failure = await ran(tool, ARGUMENTS.get(action, '{"topic": "moss"}'))
        assert isinstance(failure, ToolFailure)
        assert (failure.reason, failure.retryable) == ("ACTION_NOT_CONFIGURED", False)
        assert "ORCHESTRATOR_" in failure.message
        assert not there.asked


@pytest.mark.parametrize(("action", "adapter", "chosen"), ADAPTERS, ids=ids)
async def test_a_source_that_fails_is_a_failure_with_its_reason(
    action: str, adapter: str, chosen: dict[str, Any]
) -> None:
    for fault, (happen, reason, retryable) in FAULTS.items():
        async with kit(**chosen) as (tools, there):
            happen(there)
            async with asyncio.timeout(SOON.total_seconds()):
                failure = await ran(tools.get(action), ARGUMENTS[action])
            assert isinstance(failure, ToolFailure), fault
            assert (failure.reason, failure.retryable) == (reason, retryable), fault
            assert failure.message
            assert there.asked


@pytest.mark.parametrize(("action", "adapter", "chosen"), ADAPTERS, ids=ids)
async def test_nobody_at_the_address_is_a_failure(action: str, adapter: str, chosen: dict[str, Any]) -> None:
    async with kit(**chosen) as (_, there):
        gone = there.url
    nobody = {
        "search_url",
        "weather_url",
        "overpass_url",
        "photon_url",
        "nominatim_url",
        "valhalla_url",
        "osrm_url",
    }
    async with kit() as (_, there):
        off = {name for name, value in chosen.items() if value == ""}
        async with kit(**{**chosen, **dict.fromkeys(nobody - off, gone)}) as (tools, _):
            failure = await ran(tools.get(action), ARGUMENTS[action])
    assert isinstance(failure, ToolFailure)
    assert (failure.reason, failure.retryable) == ("PROVIDER_FAILED", True)


@pytest.mark.parametrize(("action", "adapter", "chosen"), ADAPTERS, ids=ids)
async def test_what_cannot_be_read_is_a_failure(action: str, adapter: str, chosen: dict[str, Any]) -> None:
    async with kit(**chosen) as (tools, there):
        for body in GARBAGE:
            there.answers = dict.fromkeys(there.answers, Answer(body=body))
            answer = await ran(tools.get(action), ARGUMENTS[action])
            if isinstance(answer, ToolFailure):
                assert (answer.reason, answer.retryable) == ("PROVIDER_GARBAGE", True), body
            else:  # an empty list is a list, where the service answers with a bare one
                assert (adapter, body) == ("nominatim", b"[]")
                assert answer.content.startswith("Nothing")


@pytest.mark.parametrize(("action", "adapter", "chosen"), ADAPTERS, ids=ids)
@pytest.mark.requirement("AGT-6")
async def test_a_slow_source_ends_with_the_action(action: str, adapter: str, chosen: dict[str, Any]) -> None:
    async with kit(**chosen) as (tools, there):
        there.fault = "slow"
        asking = asyncio.ensure_future(ran(tools.get(action), ARGUMENTS[action]))
        async with asyncio.timeout(SOON.total_seconds()):
            await there.waiting.wait()
        asking.cancel()
        async with asyncio.timeout(SOON.total_seconds()):
            await there.hung_up.wait()
        assert asking.cancelled()


async def test_every_action_that_asks_outside_has_patience_shorter_than_its_own_time() -> None:
    """So that a slow source is told as one, with its reason, and not as an action that took too long."""
    from orchestrator_svc.tools.places import nominatim, osrm, overpass, photon, valhalla
    from orchestrator_svc.tools.search import page
    from orchestrator_svc.tools.weather import open_meteo

    async with kit() as (tools, _):
        for name, modules in {
            "get_weather": (open_meteo,),
            "location_search": (overpass, photon, nominatim),
            "get_directions": (osrm, valhalla),
            "fetch_page": (page,),
        }.items():
            tool = tools.get(name)
            assert tool is not None
            assert all(module._BOUNDS.seconds < tool.timeout for module in modules)


@pytest.mark.parametrize(
    ("action", "wrong", "field"),
    [
        ("get_weather", {"units": "kelvin"}, "units"),
        ("get_forecast", {"days": 11}, "days"),
        ("get_forecast", {"days": 0}, "days"),
        ("get_forecast", {"units": "nautical"}, "units"),
        ("location_search", {"type": "zoo"}, "type"),
        ("location_search", {"radius": 10}, "radius"),
        ("location_search", {"radius": 100_000}, "radius"),
        ("location_search", {"limit": 0}, "limit"),
        ("get_directions", {"destination": "x", "mode": "flying"}, "mode"),
        ("knowledge_retrieval", {"topic": "x", "depth": "deep"}, "depth"),
        ("web_search", {"query": "x", "num_results": 0}, "num_results"),
        ("web_search", {"query": ""}, "query"),
    ],
)
async def test_a_parameter_out_of_its_range_is_refused_by_name(
    action: str, wrong: dict[str, object], field: str
) -> None:
    async with kit() as (tools, there):
        tool = tools.get(action)
        assert tool is not None
        fault = Schema(tool.schema).fault(json.dumps(wrong))
        assert fault is not None
        assert fault.field == field
        failure = await ran(tool, json.dumps(wrong))
        assert isinstance(failure, ToolFailure)
        assert (failure.field, failure.reason) == (field, "ARGUMENTS_INVALID")
        assert not there.asked
