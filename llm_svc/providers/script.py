"""The script of the scripted model: a TOML file as rules, and the pure choice of what to do next.

The form is described in ``docs/scripted-model.md``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec

from llm_svc.generation import FinishReason, Request, Role, after_last_user, last_user_text, results_in

MAX_REPEATS = 100_000
DEFAULT_SCRIPT = Path(__file__).with_name("default_script.toml")

Number: TypeAlias = int | str  # a string is a template that must come out as digits


class ScriptInvalid(ValueError):
    """The script file cannot be used; the text says where and why."""


class TextMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="text"):
    """Say ``text``, whole or in tokens of ``size`` characters, ``times`` over, ``pause_ms`` apart."""

    text: str = ""
    tokens: tuple[str, ...] = ()
    size: int = 0
    times: Number = 1
    pause_ms: Number = 0


class ThinkMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="think"):
    """Give a piece of reasoning."""

    text: str


class PauseMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="pause"):
    """Wait, by the room's clock."""

    ms: Number


class CallMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="call"):
    """Ask for a tool. ``arguments`` is a template of JSON text."""

    name: str
    arguments: str = "{}"


class FailMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="fail"):
    """Fail with one of the reasons a provider may raise."""

    reason: str


class FinishMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="finish"):
    """End with this reason rather than the natural one."""

    reason: str


class UsageMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="usage"):
    """Report these counts rather than the counted ones."""

    input: int
    output: int
    cached: int = 0
    estimated: bool = False


Move: TypeAlias = TextMove | ThinkMove | PauseMove | CallMove | FailMove | FinishMove | UsageMove


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When every given condition holds, the moves are played. A rule without conditions always holds."""

    moves: tuple[Move, ...]
    contains: str = ""
    matches: str = ""
    step: int = 0
    tool: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """One token of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Think:
    """One piece of reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Let this many seconds of the clock pass."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """Ask for a tool."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise the error of this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Use this finish reason."""

    reason: FinishReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Use these counts."""

    input: int
    output: int
    cached: int
    estimated: bool


Act: TypeAlias = Say | Think | Wait | Ask | Fail | End | Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """Rules in their order; the first that holds is played."""

    rules: tuple[Rule, ...]
    source: str = field(default="", compare=False)

    def play(self, request: Request) -> Iterator[Act]:
        """What the model does for this request. Raises ScriptInvalid where a template does not work out."""
        user = last_user_text(request.messages)
        step = _step(request)
        offered = {tool.name for tool in request.tools}
        for rule in self.rules:
            found = _holds(rule, user=user, step=step, offered=offered)
            if found is not None:
                yield from _acts(rule, _words(request, user, found))
                return
        raise ScriptInvalid(f"{self.source}: no rule holds, and there is no rule without conditions")


def load(path: Path) -> Script:
    """Read a script file. Raises ScriptInvalid when it is missing or wrong, with the place."""
    try:
        rules = msgspec.convert(tomllib.loads(path.read_text()), _File).rule
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as wrong:
        raise ScriptInvalid(f"{path}: {wrong}") from wrong
    for number, rule in enumerate(rules, start=1):
        _check(rule, f"{path}: rule {number}")
    return Script(rules=rules, source=str(path))


def _check(rule: Rule, place: str) -> None:
    try:
        re.compile(rule.matches)
    except re.error as wrong:
        raise ScriptInvalid(f"{place}: matches: {wrong}") from wrong
    for move in rule.moves:
        if isinstance(move, FinishMove) and move.reason not in FinishReason.__members__:
            raise ScriptInvalid(f"{place}: unknown finish reason {move.reason}")


def _step(request: Request) -> int:
    """1 for the first answer to a user message, then one more for each round of tool results."""
    rounds = [m for m in after_last_user(request.messages) if m.role is Role.TOOL]
    return 1 + len(rounds)


def _holds(rule: Rule, *, user: str, step: int, offered: set[str]) -> Mapping[str, str] | None:
    if rule.step not in (0, step) or (rule.tool and rule.tool not in offered):
        return None
    if rule.contains.lower() not in user.lower():
        return None
    found = re.search(rule.matches, user, re.IGNORECASE | re.DOTALL)
    return None if found is None else {name: text or "" for name, text in found.groupdict().items()}


def _words(request: Request, user: str, found: Mapping[str, str]) -> Mapping[str, str]:
    results = results_in(after_last_user(request.messages))
    tool_result = "\n".join(result.text for result in results)
    return {"user": user, "tool_result": tool_result, **found}


def _acts(rule: Rule, words: Mapping[str, str]) -> Iterator[Act]:
    for move in rule.moves:
        match move:
            case TextMove():
                yield from _text(move, words)
            case ThinkMove():
                yield Think(_fill(move.text, words))
            case PauseMove():
                yield Wait(_number(move.ms, words) / 1000)
            case CallMove():
                yield Ask(name=_fill(move.name, words), arguments=_fill(move.arguments, words, json=True))
            case FailMove():
                yield Fail(_fill(move.reason, words))
            case FinishMove():
                yield End(FinishReason[move.reason])
            case UsageMove():
                yield Report(
                    input=move.input, output=move.output, cached=move.cached, estimated=move.estimated
                )
            case _:
                assert_never(move)


def _text(move: TextMove, words: Mapping[str, str]) -> Iterator[Act]:
    pause = _number(move.pause_ms, words) / 1000
    tokens = [_fill(token, words) for token in move.tokens] or _cut(_fill(move.text, words), move.size)
    first = True
    for _ in range(min(_number(move.times, words), MAX_REPEATS)):
        for token in tokens:
            if pause and not first:
                yield Wait(pause)
            first = False
            yield Say(token)


def _cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)] if size > 0 else [text]


def _fill(template: str, words: Mapping[str, str], *, json: bool = False) -> str:
    """Put the words into ``{name}``; inside JSON text they are escaped for the string they stand in."""

    def word(name: re.Match[str]) -> str:
        value = words.get(name[1])
        if value is None:
            return name[0]
        return msgspec.json.encode(value).decode()[1:-1] if json else value

    return re.sub(r"\{([a-z_]+)\}", word, template)


def _number(number: Number, words: Mapping[str, str]) -> int:
    text = _fill(number, words) if isinstance(number, str) else str(number)
    if not text.isdecimal():
        raise ScriptInvalid(f"not a number: {text!r}")
    return int(text)
