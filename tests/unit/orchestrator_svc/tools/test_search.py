"""Searching the web: four engines, one answer."""

from __future__ import annotations

import json

import pytest

from orchestrator_svc.tools.tool import Output, ToolFailure
from tests.unit.orchestrator_svc.kit import HERE, NOW_US, kit, ran
from tests.unit.orchestrator_svc.outside import Answer

pytestmark = pytest.mark.requirement("TOOL-1")
ENGINES = {"searxng": "SearXNG", "brave": "Brave Search", "tavily": "Tavily", "duckduckgo": "DuckDuckGo"}


@pytest.mark.parametrize("engine", ENGINES)
async def test_hits_have_title_snippet_address_and_source(engine: str) -> None:
    async with kit(search=engine, search_url=f"{HERE}/{engine}") as (tools, _):
        answer = await ran(tools.get("web_search"), '{"query": "moss & fern"}')
    assert isinstance(answer, Output)
    assert answer.content.startswith(f"Found by {ENGINES[engine]}:\n1. Moss - Wikipedia")
    assert [source.uri for source in answer.sources] == [
        "https://en.wikipedia.org/wiki/Moss",
        "https://www.rhs.org.uk/moss",
    ]
    assert answer.sources[1].title == "Moss: in gardens"
    assert answer.sources[1].snippet.startswith("How to live with moss")
    assert {source.publisher for source in answer.sources} == {ENGINES[engine]}
    assert {source.fetched_at_us for source in answer.sources} == {NOW_US}
    assert "<" not in answer.content
    assert "&amp;" not in answer.content
    assert "Mosses are small" in answer.content


@pytest.mark.parametrize("engine", ENGINES)
async def test_no_more_hits_than_asked_for(engine: str) -> None:
    async with kit(search=engine, search_url=f"{HERE}/{engine}") as (tools, there):
        answer = await ran(tools.get("web_search"), '{"query": "moss", "num_results": 1}')
        assert isinstance(answer, Output)
        assert len(answer.sources) == 1
        if engine == "brave":
            assert there.asked[0].query["count"] == "1"
        if engine == "tavily":
            assert json.loads(there.asked[0].body)["max_results"] == 1


async def test_each_engine_is_asked_in_its_own_way() -> None:
    asked = {}
    for engine in ENGINES:
        async with kit(search=engine, search_url=f"{HERE}/{engine}") as (tools, there):
            await ran(tools.get("web_search"), '{"query": "moss & fern"}')
            (asked[engine],) = there.asked
    assert asked["searxng"].query == {"q": "moss & fern", "format": "json", "safesearch": "1"}
    assert asked["brave"].headers["x-subscription-token"] == "a key"
    assert asked["brave"].query["q"] == "moss & fern"
    assert asked["tavily"].headers["authorization"] == "Bearer a key"
    assert json.loads(asked["tavily"].body)["query"] == "moss & fern"
    assert (asked["duckduckgo"].method, asked["duckduckgo"].body[:17]) == ("POST", b"q=moss+%26+fern&b")


@pytest.mark.parametrize(
    ("engine", "nothing"),
    [
        ("searxng", b'{"query": "x", "results": []}'),
        ("brave", b'{"type": "search", "query": {}}'),
        ("tavily", b'{"results": []}'),
        ("duckduckgo", b'<html><body><div class="no-results">No results.</div></body></html>'),
    ],
)
async def test_finding_nothing_is_an_answer(engine: str, nothing: bytes) -> None:
    async with kit(search=engine, search_url=f"{HERE}/{engine}") as (tools, there):
        there.answers = dict.fromkeys(there.answers, Answer(body=nothing))
        answer = await ran(tools.get("web_search"), '{"query": "moss"}')
    assert isinstance(answer, Output)
    assert (answer.content, answer.sources) == (f"{ENGINES[engine]} found nothing.", ())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"error": "x"}', b"<html><p>Sorry", b'{"results": 7}', b"\xff\x00"]
)
async def test_what_is_no_result_page_is_garbage(engine: str, body: bytes) -> None:
    async with kit(search=engine, search_url=f"{HERE}/{engine}") as (tools, there):
        there.answers = dict.fromkeys(there.answers, Answer(body=body))
        answer = await ran(tools.get("web_search"), '{"query": "moss"}')
    assert isinstance(answer, ToolFailure)
    assert (answer.reason, answer.retryable) == ("PROVIDER_GARBAGE", True)


async def test_an_engine_that_takes_us_for_a_robot_says_so() -> None:
    async with kit(search="duckduckgo", search_url=f"{HERE}/duckduckgo") as (tools, there):
        there.answers["/duckduckgo/html/"] = Answer(body=b'<form><div class="anomaly-modal__title">')
        answer = await ran(tools.get("web_search"), '{"query": "moss"}')
    assert isinstance(answer, ToolFailure)
    assert answer.reason == "PROVIDER_LIMITED"


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"search": ""}, "ORCHESTRATOR_SEARCH"),
        ({"search": "searxng", "search_url": ""}, "ORCHESTRATOR_SEARCH_URL"),
        ({"search": "brave", "search_key": ""}, "ORCHESTRATOR_SEARCH_KEY_FILE"),
    ],
)
async def test_a_search_that_lacks_something_names_the_setting(chosen: dict[str, str], named: str) -> None:
    async with kit(**chosen) as (tools, there):
        answer = await ran(tools.get("web_search"), '{"query": "moss"}')
        assert isinstance(answer, ToolFailure)
        assert answer.reason == "ACTION_NOT_CONFIGURED"
        assert named in answer.message
        assert not there.asked
