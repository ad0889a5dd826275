"""What a server that refuses or breaks off means, as one of our errors."""

from __future__ import annotations

import msgspec

from chassis.errors import ServiceError
from llm_svc.errors import ContextTooLong, ProviderFailed, ProviderLimited, ProviderRefused, ProviderTimeout


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error


_decode_error = msgspec.json.Decoder(_ErrorBody).decode
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "maximum context length", "context size")


def refusal(status: int, answer: bytes) -> ServiceError:
    """Our error for an HTTP status (0: said inside the stream) and the body that came with it.

    The body decides only what its status leaves open, and none of its words are kept.
    """
    if status in (401, 403, 404):
        return ProviderRefused()
    if status == 408:
        return ProviderTimeout()
    if status == 429:
        return ProviderLimited()
    if status >= 500:
        return ProviderFailed()
    return _said(answer, ProviderFailed() if status == 0 else ProviderRefused())


def _said(answer: bytes, otherwise: ServiceError) -> ServiceError:
    try:
        error = _decode_error(answer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return otherwise
    told = f"{error.code} {error.type} {error.message}".lower()
    if any(sign in told for sign in _TOO_LONG):
        return ContextTooLong()
    if "rate_limit" in told:
        return ProviderLimited()
    return otherwise
