"""A tool: data about an action, and one asynchronous function that performs it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import jsonschema
import msgspec

from orchestrator_svc.conversation import BackgroundTask, ContextUpdate, NextAction, Source
from orchestrator_svc.errors import Reason
from orchestrator_svc.material import Manner
from orchestrator_svc.prompt import ToolSpec

A = TypeVar("A")

RESULT_BYTES = 256 * 1024
_AT = re.compile(r"at `\$\.([^`]+)`")  # how msgspec names the field at fault


class Effect(Enum):
    """What running an action means for the world."""

    NONE = "none"  # it changes nothing and tells nobody
    READS_OUT = "reads_out"  # its arguments leave the mesh
    EFFECT = "effect"  # it changes something outside the conversation


class Origin(Enum):
    """Where an action comes from."""

    BUILT_IN = "built_in"
    PLUGIN = "plugin"
    MCP = "mcp"


class Lack(Enum):
    """Why an action cannot be used."""

    NOT_CONFIGURED = "not_configured"
    CHANGED = "changed"  # the operator has to approve it, or to approve it again
    FAILED = "failed"


_LACKS = {
    Lack.NOT_CONFIGURED: Reason.ACTION_NOT_CONFIGURED,
    Lack.CHANGED: Reason.ACTION_FORBIDDEN,
    Lack.FAILED: Reason.ACTION_FAILED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What answers a search for actions; `more` do too. `agents`: whose actions there are beside the built-in."""

    specs: tuple[ToolSpec, ...] = ()
    more: int = 0
    agents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a tool may know of the turn it runs in: nothing but this. Times in microseconds since 1970."""

    now_us: int
    manner: Manner = Manner()
    facts: Mapping[str, str] = field(default_factory=dict)
    withheld: frozenset[str] = (
        frozenset()
    )  # keys of facts that may not leave the machine, as the action would
    progress: Callable[[str, float | None], None] = lambda message, fraction: None
    find: Callable[[str, int], Found] = lambda query, limit: Found()  # among the actions the turn may use


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What a tool answers: text or JSON for the model, where its facts come from, what it proposes to run next, and
    what it leaves behind: context items, and work for later.
    """

    content: str
    sources: tuple[Source, ...] = ()
    next_actions: tuple[NextAction, ...] = ()
    context_updates: tuple[ContextUpdate, ...] = ()
    background_tasks: tuple[BackgroundTask, ...] = ()


class ToolFailure(Exception):
    """The action failed. `message` goes to the model and the person; `field` names the argument at fault."""

    def __init__(
        self, message: str, *, reason: str = Reason.ACTION_FAILED, field: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.retryable = retryable


class Question(Exception):
    """The action needs an answer of the person, and did nothing yet. What they fill in becomes its result.

    `form` is a flat JSON schema (2020-12) of strings, numbers, booleans and choices. An action with effects must
    not ask: what it needs stands in its arguments.
    """

    def __init__(self, message: str, form: str) -> None:
        super().__init__(message)
        self.message = message
        self.form = form


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A request in a person's words, and the arguments that serve it."""

    request: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool(Generic[A]):
    """One action. The contract of `perform`, kept by tests/contracts/tool.py:

    it is given arguments that fit `schema`; it answers an Output or raises ToolFailure or Question, nothing else; it
    invents nothing; it ends at once when cancelled and leaves nothing running.

    One that others wrote brings its schema along (`given_schema`); its `arguments` are then a plain dict.
    """

    name: str
    description: str
    arguments: type[A]
    perform: Callable[[A, Setting], Awaitable[Output]]
    agent: str
    effect: Effect
    timeout: float = 30.0
    consents: tuple[str, ...] = ()
    context_keys: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    missing: str = ""  # what it lacks and how to cure it, for a person; empty: ready
    lack: Lack = Lack.NOT_CONFIGURED
    origin: Origin = Origin.BUILT_IN
    given_schema: str = ""
    foreign: bool = False  # its results hold what others wrote, though it asks nobody outside
    outside: bool = False  # others wrote its description, which every turn that is offered it reads
    hosted: bool = False  # context_svc performs it: it owns the state
    writes: bool = False  # it changes what is kept of the person, who can take it back
    wordless: tuple[str, ...] = ()  # arguments that hold no words, for example a time

    @property
    def ready(self) -> bool:
        """Whether what it needs is configured. One that is not fails with `missing` when it is run."""
        return not self.missing

    @property
    def state_reason(self) -> Reason | None:
        """Why it cannot be used, when it cannot."""
        return _LACKS[self.lack] if self.missing else None

    @property
    def schema(self) -> str:
        """The JSON schema (2020-12) of the arguments, an object schema, byte-stable."""
        if self.given_schema:
            return self.given_schema
        return json.dumps(_schema(self.arguments), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @property
    def spec(self) -> ToolSpec:
        """The action as a model sees it."""
        return ToolSpec(name=self.name, description=_described(self), schema=self.schema)

    async def run(self, arguments: str, setting: Setting) -> Output:
        """Perform the action with arguments that were checked. Raises ToolFailure and Question."""
        if self.missing:
            raise ToolFailure(self.missing, reason=_LACKS[self.lack])
        try:
            decoded = msgspec.json.decode(arguments or "{}", type=self.arguments)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            at = _AT.search(str(error))
            field = at[1] if at else ""
            raise ToolFailure(str(error), reason=Reason.ARGUMENTS_INVALID, field=field) from error
        return await self.perform(decoded, setting)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What is wrong with arguments: which field (empty: the whole), and a sentence a model can act on."""

    field: str
    message: str


class Schema:
    """A JSON schema, ready to check arguments. References to other documents are not followed."""

    def __init__(self, schema: str) -> None:
        self.document: Mapping[str, Any] = json.loads(schema)
        self._validator = jsonschema.Draft202012Validator(self.document)

    def fault(self, arguments: str) -> Fault | None:
        """The first thing wrong with the arguments, or None."""
        try:
            value = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return Fault(field="", message="The arguments are not a JSON object.")
        if not isinstance(value, dict):
            return Fault(field="", message="The arguments must be a JSON object.")
        error = jsonschema.exceptions.best_match(self._validator.iter_errors(value))
        return None if error is None else _fault(error)


def _fault(error: jsonschema.ValidationError) -> Fault:
    field = ".".join(map(str, error.absolute_path))
    if error.validator == "required" and isinstance(error.instance, Mapping):
        missing = next((name for name in _listed(error.validator_value) if name not in error.instance), "")
        field = ".".join(filter(None, (field, missing)))
    return Fault(field=field, message=error.message[:500])


def _listed(value: object) -> list[str]:
    return value if isinstance(value, list) else []


def canonical(arguments: str) -> str:
    """The same arguments in one form, to tell whether two calls ask for the same."""
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _schema(arguments: type[Any]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    own = dict(components.pop(arguments.__name__))
    own.pop("title", None)
    own.pop("description", None)
    return {**own, "additionalProperties": False, **({"$defs": dict(components)} if components else {})}


def _described(tool: Tool[Any]) -> str:
    shown = [
        f'"{each.request}" -> {json.dumps(each.arguments, ensure_ascii=False)}' for each in tool.examples
    ]
    return "\n".join((tool.description, *(("Examples:", *shown) if shown else ())))
