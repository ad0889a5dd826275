"""The offline reference."""

from __future__ import annotations

import pytest

from orchestrator_svc.material import Manner
from orchestrator_svc.tools.tool import Output, ToolFailure
from tests.unit.orchestrator_svc.kit import kit, ran

pytestmark = pytest.mark.requirement("TOOL-2")


async def looked_up(topic: str, depth: str = "basic", language: str = "") -> Output:
    async with kit() as (tools, there):
        answer = await ran(
            tools.get("knowledge_retrieval"),
            f'{{"topic": "{topic}", "depth": "{depth}"}}',
            manner=Manner(language=language),
        )
        assert isinstance(answer, Output)
        assert not there.asked  # nobody outside is asked
        return answer


async def test_an_article_names_its_source_and_licence() -> None:
    answer = await looked_up("photosynthesis")
    assert answer.content == (
        "Photosynthesis\nPlants make sugar out of light, water and air.\n"
        "Source: Wikipedia, CC BY-SA 4.0, https://en.wikipedia.org/wiki/Photosynthesis"
    )
    (source,) = answer.sources
    assert (source.title, source.publisher) == ("Photosynthesis", "Wikipedia, CC BY-SA 4.0")
    assert source.snippet.startswith("Plants make sugar")


@pytest.mark.parametrize(
    ("topic", "title"),
    [("the moss", "Moss"), ("What is moss?", "Moss"), ("plant flowers", "Moss"), ("MOSS", "Moss")],
)
async def test_a_topic_is_found_by_its_words(topic: str, title: str) -> None:
    assert (await looked_up(topic)).content.startswith(f"{title}\n")


async def test_the_persons_language_comes_first() -> None:
    assert "font du sucre" in (await looked_up("Photosynthèse", language="fr-FR")).content


async def test_depth_is_a_summary_the_main_passages_or_all_of_it() -> None:
    basic, intermediate, advanced = [
        (await looked_up("Norway", depth)).content for depth in ("basic", "intermediate", "advanced")
    ]
    assert "Climate" not in basic
    assert "Geography, Climate: Mild on the coast" in intermediate
    assert "Figure number 7" not in intermediate
    assert "Figure number 7" in advanced


async def test_a_question_brings_the_passage_that_answers_it() -> None:
    assert "People, Population: 5.5 million." in (await looked_up("population of Norway")).content


async def test_what_it_does_not_have_it_says() -> None:
    answer = await looked_up("Zarahemla")
    assert answer.content == "The offline reference has nothing about 'Zarahemla'."
    assert not answer.sources


async def test_without_the_books_it_says_how_to_get_them() -> None:
    async with kit(reference_dir=None) as (tools, _):
        answer = await ran(tools.get("knowledge_retrieval"), '{"topic": "moss"}')
        assert isinstance(answer, ToolFailure)
        assert answer.reason == "ACTION_NOT_CONFIGURED"
        assert "mesh reference" in answer.message
