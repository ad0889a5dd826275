"""What a step costs, and what it could cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_svc.ability import OUTPUT_TOKENS, bounded, require_able
from llm_svc.errors import CostLimit, ParameterUnsupported
from llm_svc.generation import Parameters, Usage
from llm_svc.pricing import cost, require_affordable, worst_case
from llm_svc.providers.provider import Model, Price
from tests.unit.llm_svc.windows import asking, user

pytestmark = pytest.mark.requirement("LLM-6")
DOLLAR = 1_000_000
BEYOND = Price(input=4 * DOLLAR, output=15 * DOLLAR, looked_up=0)
PRICE = Price(
    input=2 * DOLLAR,
    output=10 * DOLLAR,
    cached=DOLLAR // 5,
    stored=DOLLAR * 5 // 2,
    looked_up=0,
    above=1_000,
    beyond=BEYOND,
)
MODEL = Model(
    id="m", display_name="M", provider="p", context_tokens=100_000, output_tokens=64_000, price=PRICE, stops=4
)


@pytest.mark.parametrize(
    ("usage", "micro"),
    [
        (Usage(input_tokens=100, output_tokens=10), 300),
        (Usage(input_tokens=100, output_tokens=10, cached_tokens=50), 210),
        (Usage(input_tokens=100, output_tokens=10, cached_tokens=50, stored_tokens=50), 235),
        (Usage(input_tokens=1_001, output_tokens=10), 4_154),
        (Usage(input_tokens=0, output_tokens=0), 0),
        (Usage(input_tokens=1, output_tokens=0, cached_tokens=1), 1),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, micro: int) -> None:
    assert cost(usage, PRICE) == micro


def test_nothing_is_charged_where_no_price_is_known() -> None:
    assert cost(Usage(input_tokens=9, output_tokens=9), None) == 0
    assert worst_case(asking(user("x")), replace(MODEL, price=None)) == 0


def test_the_worst_case_is_the_longest_answer_with_the_dearest_reading() -> None:
    asked = asking(user("x"), parameters=Parameters(max_output_tokens=100))
    assert worst_case(asked, MODEL) == -(-(5 * 2_500_000 + 100 * 10_000_000) // 1_000_000)
    require_affordable(asked, MODEL, worst_case(asked, MODEL))
    require_affordable(asked, MODEL, None)
    with pytest.raises(CostLimit):
        require_affordable(asked, MODEL, worst_case(asked, MODEL) - 1)


@pytest.mark.parametrize(
    ("wanted", "limit"),
    [(None, OUTPUT_TOKENS), (100, 100), (OUTPUT_TOKENS + 1, OUTPUT_TOKENS + 1), (99_999, 64_000)],
)
def test_a_charged_model_always_has_a_limit(wanted: int | None, limit: int) -> None:
    asked = asking(user("x"), parameters=Parameters(max_output_tokens=wanted))
    assert bounded(asked, MODEL).parameters.max_output_tokens == limit
    free = replace(MODEL, price=None)
    assert bounded(asking(user("x")), free).parameters.max_output_tokens is None


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        (Parameters(temperature=0.0), "temperature"),
        (Parameters(top_p=0.5), "top_p"),
        (Parameters(stop=("a",) * 5), "stop"),
        (Parameters(json_schema="{}"), "json_schema"),
    ],
)
def test_a_parameter_that_the_model_does_not_take_is_named(parameters: Parameters, named: str) -> None:
    model = replace(MODEL, sampling=False, json_schema=False)
    with pytest.raises(ParameterUnsupported) as refused:
        require_able(asking(user("x"), parameters=parameters), model)
    assert refused.value.metadata == {"parameter": named}


def test_a_seed_is_a_wish_and_refuses_nothing() -> None:
    require_able(
        asking(user("x"), parameters=Parameters(seed=1, stop=("a",) * 4)), replace(MODEL, sampling=False)
    )
