"""What a step costs, in micro-USD: the worst case before it is asked, the real figure after it."""

from __future__ import annotations

from llm_svc.errors import CostLimit
from llm_svc.generation import Request, Usage
from llm_svc.providers.provider import Model, Price
from llm_svc.tokens import estimate

_MILLION = 1_000_000


def cost(usage: Usage, price: Price | None) -> int:
    """Micro-USD of what was used, rounded up; 0 where nothing is charged."""
    if price is None:
        return 0
    price = _tier(price, usage.input_tokens)
    plain = max(usage.input_tokens - usage.cached_tokens - usage.stored_tokens, 0)
    sum = plain * price.input + usage.output_tokens * price.output
    sum += usage.cached_tokens * (price.input if price.cached is None else price.cached)
    sum += usage.stored_tokens * (price.input if price.stored is None else price.stored)
    return _rounded_up(sum)


def worst_case(request: Request, model: Model) -> int:
    """Micro-USD that the longest answer to this window could cost."""
    if model.price is None:
        return 0
    read = estimate(request).tokens
    price = _tier(model.price, read)
    longest = min(request.parameters.max_output_tokens or model.output_tokens, model.output_tokens)
    return _rounded_up(read * max(price.input, price.stored or 0) + longest * price.output)


def require_affordable(request: Request, model: Model, max_cost: int | None) -> None:
    """Raise CostLimit when the longest answer to this window could cost more than ``max_cost`` micro-USD."""
    if max_cost is not None and worst_case(request, model) > max_cost:
        raise CostLimit(metadata={"model": model.id})


def _tier(price: Price, read: int) -> Price:
    return price.beyond if price.beyond is not None and read > price.above else price


def _rounded_up(sum: int) -> int:
    return -(-sum // _MILLION)
