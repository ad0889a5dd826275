"""Whether a model can do what a request asks: decided before anything is asked of a provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llm_svc.errors import ContextTooLong, ParameterUnsupported
from llm_svc.generation import ImagePart, Request
from llm_svc.providers.provider import Model
from llm_svc.tokens import estimate

SURELY_TOO_LONG = 3  # an estimate is never that far off; what is nearer the limit the provider decides
OUTPUT_TOKENS = 16_384  # of a charged model that nobody gave a limit: the worst case is priced by it


def require_able(request: Request, model: Model) -> None:
    """Raise ParameterUnsupported, with the parameter's name, or ContextTooLong."""
    for parameter in _beyond(request, model):
        raise ParameterUnsupported(parameter, metadata={"parameter": parameter})
    if estimate(request).tokens > SURELY_TOO_LONG * model.context_tokens:
        raise ContextTooLong


def _beyond(request: Request, model: Model) -> Iterator[str]:
    parameters = request.parameters
    if parameters.json_schema is not None and not model.json_schema:
        yield "json_schema"
    if parameters.temperature is not None and not model.sampling:
        yield "temperature"
    if parameters.top_p is not None and not model.sampling:
        yield "top_p"
    if len(parameters.stop) > model.stops:
        yield "stop"
    pictures = any(isinstance(part, ImagePart) for message in request.messages for part in message.parts)
    if pictures and not model.vision:
        yield "images"


def bounded(request: Request, model: Model) -> Request:
    """The request with a limit on what is written that the model keeps."""
    wanted = request.parameters.max_output_tokens
    if wanted is None and model.price is None:
        return request
    limit = min(wanted or OUTPUT_TOKENS, model.output_tokens)
    return replace(request, parameters=replace(request.parameters, max_output_tokens=limit))
