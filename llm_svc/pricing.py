"""What a step costs, in micro-USD: the worst case before it is asked, the real figure after it."""

from __future__ import annotations

from llm_svc.errors import CostLimit
from llm_svc.generation import Request, Usage
from llm_svc.providers.provider import Model, Price
from llm_svc.tokens import estimate

_MILLION = 1_000_000


def cost(usage: Usage, price: Price | None) -> int:
    """Micro-USD of what was used, rounded up; 0 where nothing is charged."""
    return _priced(usage.input_tokens, usage.output_tokens, price) if price else 0


def require_affordable(request: Request, model: Model, max_cost: int | None) -> None:
    """Raise CostLimit when the longest answer to this window could cost more than ``max_cost`` micro-USD."""
    if max_cost is None or model.price is None:
        return
    longest = min(request.parameters.max_output_tokens or model.output_tokens, model.output_tokens)
    if _priced(estimate(request).tokens, longest, model.price) > max_cost:
        raise CostLimit(metadata={"model": model.id})


def _priced(read: int, written: int, price: Price) -> int:
    return -(-(read * price.input + written * price.output) // _MILLION)
