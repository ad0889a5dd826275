"""What a server that refuses or breaks off means, as one of our errors."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from chassis.errors import ServiceError
from llm_svc.errors import ContextTooLong, ProviderFailed, ProviderLimited, ProviderRefused, ProviderTimeout


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class _ErrorBody(msgspec.Struct):
    """OpenAI and Anthropic say ``error``, Cohere says ``message``."""

    error: _Error | None = None
    message: str | None = None


_decode_error = msgspec.json.Decoder(_ErrorBody).decode
_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size_error",
    "maximum context length",
    "context size",
    "prompt is too long",
    "too many tokens",
)


def refusal(status: int, answer: bytes, wait: timedelta | None = None) -> ServiceError:
    """Our error for an HTTP status (0: said inside the stream), the body that came with it and its Retry-After.

    The body decides only what its status leaves open, and none of its words are kept.
    """
    if status in (401, 402, 403, 404):
        return ProviderRefused()
    if status in (408, 504):
        return ProviderTimeout()
    if status == 413:
        return ContextTooLong()
    if status == 429:
        return ProviderLimited(retry_after=wait)
    if status >= 500:
        return ProviderFailed(retry_after=wait)
    return _said(answer, ProviderFailed() if status == 0 else ProviderRefused())


def _said(answer: bytes, otherwise: ServiceError) -> ServiceError:
    try:
        body = _decode_error(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return otherwise
    error = body.error or _Error()
    told = f"{error.code} {error.type} {error.message} {body.message}".lower()
    if any(sign in told for sign in _TOO_LONG):
        return ContextTooLong()
    if "rate_limit" in told:
        return ProviderLimited()
    if "authentication_error" in told or "permission_error" in told:
        return ProviderRefused()
    return otherwise
