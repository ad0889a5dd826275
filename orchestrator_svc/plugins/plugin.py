"""A plugin as the room uses it: its actions as tools, or the reason why it has none."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from orchestrator_svc.conversation import BackgroundTask, ContextUpdate, NextAction, Source
from orchestrator_svc.errors import Reason
from orchestrator_svc.plugins.cell import (
    WALL_SECONDS,
    Call,
    Code,
    Described,
    PluginBroken,
    plugged,
)
from orchestrator_svc.plugins.manifest import About, Manifest
from orchestrator_svc.sandbox.cell import Sandbox
from orchestrator_svc.tools.tool import RESULT_BYTES, Effect, Lack, Origin, Output, Setting, Tool, ToolFailure

_KEY = re.compile(r"[a-z0-9_.-]{1,128}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SCHEMA_BYTES = 32 * 1024
_DESCRIPTION = 2_000
_ACTIONS = 64
_FOLLOWING = 16  # next actions, and tasks, of one result
_STRENGTH = (Effect.NONE, Effect.READS_OUT, Effect.EFFECT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """A file of the folder that was loaded once and found good."""

    name: str
    code: Code
    manifest: Manifest
    sandbox: Sandbox

    async def tools(self) -> tuple[Tool[Any], ...]:
        """Its actions. Raises PluginBroken."""
        async with plugged(self.sandbox, self.code) as plug:
            described = plug.actions
        if not described:
            raise PluginBroken("it has no actions")
        if len(described) > _ACTIONS:
            raise PluginBroken(f"it has more than {_ACTIONS} actions")
        for each in described:
            _check(each)
        unknown = self.manifest.actions.keys() - {each.name for each in described}
        if unknown:
            raise PluginBroken(f"its manifest speaks of {min(unknown)}, which is no action of it")
        return tuple(map(self._tool, described))

    def _tool(self, described: Described) -> Tool[Any]:
        about = self.manifest.actions.get(described.name, About())
        timeout = about.timeout or described.timeout or WALL_SECONDS
        return Tool(
            name=described.name,
            description=described.description[:_DESCRIPTION],
            arguments=dict,
            given_schema=_stable(described.schema),
            perform=performing(self, described.name),
            agent=self.name,
            effect=self._effect(described, about),
            timeout=max(0.1, min(timeout, WALL_SECONDS)),
            consents=tuple(described.consents if about.consents is None else about.consents),
            context_keys=tuple(described.context if about.context is None else about.context),
            origin=Origin.PLUGIN,
            foreign=True,
        )

    def _effect(self, described: Described, about: About) -> Effect:
        """The strongest that anybody says. One that reaches the network and says nothing is taken for an EFFECT;
        one that does not cannot tell anybody anything.
        """
        said = [Effect(each) for each in (described.effect, about.effect) if each]
        least = Effect.READS_OUT if said else Effect.EFFECT
        said.append(least if self.manifest.hosts or not self.sandbox.confines else Effect.NONE)
        return max(said, key=_STRENGTH.index)


@dataclass(frozen=True, slots=True)
class _Performing:
    plugin: Plugin
    action: str

    async def run(self, arguments: dict[str, Any], setting: Setting) -> Output:
        """Run the action in a process of its own. Raises ToolFailure."""
        call = Call(
            action=self.action,
            parameters=arguments,
            context={key: json.loads(value) for key, value in setting.facts.items()},
            now=setting.now_us / 1e6,
            language=setting.manner.language,
            time_zone=setting.manner.time_zone,
        )
        try:
            async with plugged(self.plugin.sandbox, self.plugin.code) as plug:
                done = await plug.perform(call, setting.progress)
        except PluginBroken as error:
            raise ToolFailure(f"The plugin {self.plugin.name} is broken: {error}.") from error
        if len(done.content.encode()) > RESULT_BYTES:
            message = f"The plugin answers more than {RESULT_BYTES // 1024} KiB."
            raise ToolFailure(message, reason=Reason.RESULT_TOO_LARGE)
        return Output(
            content=done.content,
            sources=tuple(_source(each) for each in done.sources[:50]),
            context_updates=tuple(_updates(done.context_updates)),
            next_actions=tuple(_next(each) for each in done.next_actions[:_FOLLOWING]),
            background_tasks=tuple(_later(each) for each in done.background_tasks[:_FOLLOWING]),
        )


def performing(plugin: Plugin, action: str) -> Callable[[dict[str, Any], Setting], Awaitable[Output]]:
    """What runs one action of a plugin."""
    return _Performing(plugin, action).run


def broken(name: str, agent: str, message: str, *, lack: Lack, origin: Origin) -> Tool[Any]:
    """Stands in the list for what cannot be used, and says why."""

    async def perform(arguments: object, setting: Setting) -> Output:
        raise ToolFailure(message)

    return Tool(
        name=name,
        description="Cannot be used.",
        arguments=dict,
        given_schema='{"type":"object"}',
        perform=perform,
        agent=agent,
        effect=Effect.NONE,
        missing=message,
        lack=lack,
        origin=origin,
    )


def _check(described: Described) -> None:
    name = described.name
    if not _NAME.fullmatch(name):
        raise PluginBroken(f"{name[:64]!r} is no name of an action: small letters, digits and _, at most 64")
    if "__" in name:
        raise PluginBroken(f"{name}: two underscores are for the actions of servers")
    if not described.description.strip():
        raise PluginBroken(f"{name} has no description")
    if described.effect is not None and described.effect not in {each.value for each in Effect}:
        raise PluginBroken(f"{name}: there is no effect called {described.effect[:64]!r}")
    fault = schema_fault(described.schema)
    if fault:
        raise PluginBroken(f"{name}: {fault}")


def schema_fault(schema: Mapping[str, Any]) -> str:
    """What is wrong with a schema of arguments that others wrote; empty when nothing."""
    try:
        text = _stable(schema)
        if len(text.encode()) > _SCHEMA_BYTES:
            return f"its schema is larger than {_SCHEMA_BYTES // 1024} KiB"
        jsonschema.Draft202012Validator.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError, ValueError, TypeError):
        return "its schema is no JSON schema (2020-12)"
    if schema.get("type") != "object":
        return "its schema is not one of an object"
    return ""


def _stable(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _next(told: str) -> NextAction:
    """A proposal: a name, or an object of a name and arguments in one of the ways that plugins write it."""
    match json.loads(told):
        case str() as name:
            return NextAction(action=name)
        case {"action": str() as name, **more} | {"name": str() as name, **more}:
            given = next((more[key] for key in ("parameters", "arguments") if key in more), {})
            return NextAction(action=name, arguments=json.dumps(given if isinstance(given, dict) else {}))
        case _:
            raise ToolFailure("The plugin proposes a next action that has no name.")


def _updates(told: Mapping[str, str]) -> Iterator[ContextUpdate]:
    """The context items that a plugin sets. Raises ToolFailure for a key that cannot be one."""
    for key, value in list(told.items())[:_FOLLOWING]:
        if not _KEY.fullmatch(key):
            raise ToolFailure(
                f"The plugin sets a context item with the key {key[:64]!r}, which cannot be one."
            )
        yield ContextUpdate(key=key, value=value)


def _later(told: str) -> BackgroundTask:
    """Work for later: like a proposal, with a title and a delay in seconds where they are given."""
    proposed, more = _next(told), json.loads(told)
    named = more if isinstance(more, dict) else {}
    delay = named.get("delay", 0)
    return BackgroundTask(
        action=proposed.action,
        arguments=proposed.arguments or "{}",
        title=str(named.get("title", ""))[:200],
        delay=float(delay) if isinstance(delay, int | float) else 0.0,
    )


def _source(told: Mapping[str, str]) -> Source:
    given = {name: str(each)[:2_000] for name, each in told.items()}
    return Source(
        title=given.get("title", ""),
        uri=given.get("uri", ""),
        snippet=given.get("snippet", ""),
        publisher=given.get("publisher", ""),
    )
