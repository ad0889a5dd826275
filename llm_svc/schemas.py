"""JSON schemas as callers give them: text that goes into a provider's request as it is, so it must be one."""

from __future__ import annotations

import jsonschema
import msgspec

from chassis.errors import InvalidRequest, Violation

_decode = msgspec.json.Decoder(dict[str, object]).decode


def require_object(field: str, text: str) -> dict[str, object]:
    """The JSON object of the text. Raises InvalidRequest, with the field, for anything else."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise _refused(field, "is not a JSON object") from wrong


def require_schema(field: str, text: str) -> None:
    """Raise InvalidRequest, with the field, for a text that is no JSON schema (2020-12)."""
    schema = require_object(field, text)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as wrong:
        raise _refused(field, "is not a JSON schema") from wrong


def _refused(field: str, why: str) -> InvalidRequest:
    return InvalidRequest(violations=[Violation(field=field, description=why, rule="json_schema")])
