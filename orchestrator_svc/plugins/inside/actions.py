"""The actions of a loaded plugin: typed functions, and classes that list their `capabilities`."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from . import shape
from .api import Answer, Call, marked

_NAMES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_FORMS = ("string", "integer", "number", "boolean", "array", "object", "null")


@dataclass(frozen=True)
class Described:
    """An action as the room is told of it. Fields that are None are the room's to choose."""

    name: str
    description: str
    schema: Mapping[str, Any]
    effect: str | None = None
    timeout: float | None = None
    consents: Sequence[str] = ()
    context: Sequence[str] = ()


class Performs(Protocol):
    """One action: its description, and how it is run."""

    described: Described

    def start(self, parameters: dict[str, Any], call: Call) -> object:
        """Perform it: its result, or what has to be awaited for it. Raises whatever the plugin raises."""

    def answer(self, result: object) -> Answer:
        """What the result says."""


class Function:
    """An action that is a typed function."""

    def __init__(self, function: Any) -> None:
        noted = marked(function)
        assert noted is not None
        self._function = function
        self.described = Described(
            name=noted.name,
            description=noted.description,
            schema=shape.parameters(function),
            effect=noted.effect,
            timeout=noted.timeout,
            consents=noted.consents,
            context=noted.context,
        )

    def start(self, parameters: dict[str, Any], call: Call) -> object:
        """Perform it: its result, or what has to be awaited for it. Raises whatever the plugin raises."""
        started: object = self._function(**shape.bound(self._function, parameters, call))
        return started

    def answer(self, result: object) -> Answer:
        """What the result says."""
        return result if isinstance(result, Answer) else Answer(result=result)


class Capability:
    """An action of a class."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner = owner
        self._name = name
        self.described = Described(
            name=name,
            description=str(_asked(owner, f"{name}_description", f"Performs {name}.")),
            schema=_schema(_asked(owner, f"{name}_parameters", {})),
        )

    def start(self, parameters: dict[str, Any], call: Call) -> object:
        """Perform it: its result, or what has to be awaited for it. Raises whatever the plugin raises."""
        started: object = self._owner.execute(self._name, Context(call.context), parameters)
        return started

    def answer(self, result: object) -> Answer:
        """What the result says."""
        return _answer(result)


class Context(dict[str, Any]):
    """Context items by key; also as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def performed(action: Performs, parameters: dict[str, Any], call: Call) -> Answer:
    """Perform an action to its end. Raises whatever the plugin raises.

    asyncio is loaded for those alone that wait: it takes longer to load than all the rest.
    """
    result = action.start(parameters, call)
    if isinstance(result, Awaitable):
        import asyncio

        result = asyncio.run(_awaited(result))
    return action.answer(result)


async def _awaited(waiting: Awaitable[object]) -> object:
    return await waiting


def actions(module: ModuleType) -> dict[str, Performs]:
    """All actions of a module by name. Raises ValueError for two of one name, TypeError for odd types."""
    found: dict[str, Performs] = {}
    for each in _found(module):
        if each.described.name in found:
            raise ValueError(f"two actions are called {each.described.name}")
        found[each.described.name] = each
    return found


def _found(module: ModuleType) -> Iterator[Performs]:
    for value in list(vars(module).values()):
        if marked(value):
            yield Function(value)
        elif _lists_capabilities(value) and value.__module__ == module.__name__:
            owner = value()
            for name in _asked(owner, "capabilities", ()):
                yield Capability(owner, str(name))


def _lists_capabilities(value: object) -> bool:
    return (
        isinstance(value, type)
        and hasattr(value, "capabilities")
        and callable(getattr(value, "execute", None))
    )


def _asked(owner: Any, name: str, otherwise: Any) -> Any:
    """An attribute, or what it answers if it is a method."""
    found = getattr(owner, name, otherwise)
    return found() if callable(found) else found


def _schema(told: Any) -> Mapping[str, Any]:
    """A JSON schema out of one, or out of types or rules by name."""
    if not isinstance(told, Mapping):
        raise TypeError("parameters are a JSON schema, or types by name")
    if told.get("type") == "object" or isinstance(told.get("properties"), Mapping):
        return {"type": "object", **told}
    rules = {str(name): _rule(each) for name, each in told.items()}
    required = [name for name, each in told.items() if _is_required(each)]
    plain = {
        name: {key: each for key, each in rule.items() if key != "required"} for name, rule in rules.items()
    }
    return {"type": "object", "properties": plain, **({"required": required} if required else {})}


def _rule(told: Any) -> dict[str, Any]:
    if isinstance(told, Mapping):
        rule = dict(told)
        return {**rule, "type": _form(rule["type"])} if "type" in rule else rule
    if isinstance(told, type) or told in _NAMES or told in _FORMS:
        return {"type": _form(told)}
    return {"description": str(told)}


def _form(told: Any) -> Any:
    name = told.__name__ if isinstance(told, type) else told
    return _NAMES.get(name, name) if isinstance(name, str) else name


def _is_required(told: Any) -> bool:
    if not isinstance(told, Mapping):
        return False
    return told.get("required") is True


def _answer(told: Any) -> Answer:
    """What `execute` answered: a dictionary or an object with these fields, or the result alone."""
    fields = ("result", "context_updates", "next_actions", "background_tasks")
    if isinstance(told, Answer):
        return told
    if isinstance(told, Mapping) and "result" in told:
        given = {name: told[name] for name in fields if told.get(name) is not None}
    elif not isinstance(told, Mapping) and hasattr(told, "result"):
        given = {name: getattr(told, name) for name in fields if getattr(told, name, None) is not None}
    else:
        return Answer(result=told)
    return Answer(**{"result": None, **given})
