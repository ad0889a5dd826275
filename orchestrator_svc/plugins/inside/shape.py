"""JSON schemas of typed functions, and arguments made into what their types say."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from .api import Call

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def parameters(function: Callable[..., object]) -> dict[str, Any]:
    """The schema of a function's arguments. Raises TypeError for a type that JSON has no form of."""
    hints = typing.get_type_hints(function, include_extras=True)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in inspect.signature(function).parameters.values():
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise TypeError(f"{function.__name__}: parameter {each.name} must be a plain one")
        if each.name not in hints:
            raise TypeError(f"{function.__name__}: parameter {each.name} has no type")
        if hints[each.name] is Call:
            continue
        schema = of_type(hints[each.name])
        if each.default is each.empty:
            required.append(each.name)
        else:
            schema = {**schema, "default": _plain(each.default)}
        properties[each.name] = schema
    return _object(properties, required)


def of_type(hint: Any) -> dict[str, Any]:
    """The schema of one type. Raises TypeError."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:  # first: its notes may be what cannot be looked up
        return {**of_type(inner[0]), **_notes(hint.__metadata__)}
    if isinstance(hint, type) and hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint in (Any, object):
        return {}
    if hint in (None, type(None)):
        return {"type": "null"}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of_type(each) for each in inner]}
    if hint is list or origin is list:
        return {"type": "array", **({"items": of_type(inner[0])} if inner else {})}
    if hint is dict or origin is dict:
        return {"type": "object", **({"additionalProperties": of_type(inner[1])} if inner else {})}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [each.value for each in hint]}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _of_dataclass(hint)
    raise TypeError(f"{hint!r} has no form in JSON")


def bound(function: Callable[..., object], given: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """The arguments as the function wants them."""
    hints = typing.get_type_hints(function)
    wanted = {name: value(hints[name], each) for name, each in given.items() if name in hints}
    names = inspect.signature(function).parameters
    return {**wanted, **{name: call for name in names if hints.get(name) is Call}}


def value(hint: Any, given: Any) -> Any:
    """JSON that fits the schema of `hint`, as a value of that type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((made for each in inner if (made := _tried(each, given)) is not None), given)
    if origin is list and inner:
        return [value(inner[0], each) for each in given]
    if origin is dict and inner:
        return {key: value(inner[1], each) for key, each in given.items()}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(given)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{name: value(hints[name], each) for name, each in given.items()})
    return float(given) if hint is float and isinstance(given, int) else given


def _tried(hint: Any, given: Any) -> Any:
    try:
        made = value(hint, given)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return made if not isinstance(hint, type) or isinstance(made, hint) else None


def _notes(notes: tuple[Any, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for note in notes:
        if isinstance(note, str):
            found["description"] = note
        elif isinstance(note, Mapping):
            found.update(note)
    return found


def _of_dataclass(hint: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(hint, include_extras=True)
    fields = dataclasses.fields(hint)
    required = [
        each.name
        for each in fields
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    return _object({each.name: of_type(hints[each.name]) for each in fields}, required)


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _plain(default: Any) -> Any:
    if isinstance(default, enum.Enum):
        return default.value
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return dataclasses.asdict(default)
    return default
