"""What the person at this terminal says to what a turn waits for: consent to an action, or a filled form."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prompt_toolkit import PromptSession
from rich.console import Console

from mesh import answer
from mesh.printable import printable

_YES, _EDIT = ("y", "yes"), ("e", "edit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """The decision on an action: yes, no, or (with `edited`, a JSON object) yes with other arguments."""

    allowed: bool
    edited: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The answer to a question: a JSON object, or None when the person does not want to answer."""

    content: str | None


class Person(Protocol):
    """Somebody who can be asked."""

    async def decide(self, asked: answer.ApprovalAsked) -> Consent:
        """Answer whether the action may run."""

    async def fill(self, asked: answer.Asked) -> Form:
        """Answer the question."""


class AtTerminal:
    """The person who types here."""

    def __init__(self, typed: PromptSession[str], console: Console) -> None:
        self._typed, self._console = typed, console

    async def decide(self, asked: answer.ApprovalAsked) -> Consent:
        """Ask for consent; an empty line, Ctrl-C and Ctrl-D say no."""
        said = await self._line("  allow it? [y/N/edit] ")
        if said is None or said.lower() not in (*_YES, *_EDIT):
            return Consent(allowed=False)
        if said.lower() in _YES:
            return Consent(allowed=True)
        edited = await self._accepted("  arguments: ", _object, asked.arguments)
        return Consent(allowed=edited is not None, edited=edited or "")

    async def fill(self, asked: answer.Asked) -> Form:
        """Ask for each field of the form; Ctrl-C and Ctrl-D mean that the person does not want to answer."""
        filled: dict[str, Any] = {}
        form = _schema(asked.form)
        required = form.get("required", [])
        for name, field in form.get("properties", {}).items():
            wanted = name in required
            said = await self._accepted(_label(name, field, wanted), _reader(field, wanted), "")
            if said is None:
                return Form(content=None)
            if said != "":
                filled[name] = json.loads(said)
        return Form(content=json.dumps(filled, ensure_ascii=False))

    async def _accepted(self, label: str, read: Callable[[str], str], begin: str) -> str | None:
        """Ask until what was typed can be read; None when the person gives up."""
        while True:
            said = await self._line(label, begin)
            if said is None:
                return None
            try:
                return read(said)
            except ValueError as fault:
                self._console.print(f"  {fault}", style="red", markup=False, highlight=False)
                begin = said

    async def _line(self, label: str, begin: str = "") -> str | None:
        try:
            return (await self._typed.prompt_async(label, default=begin)).strip()
        except (EOFError, KeyboardInterrupt):
            return None


def _object(said: str) -> str:
    try:
        value = json.loads(said)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("That is not a JSON object.")
    return said


def _schema(form: str) -> dict[str, Any]:
    try:
        value = json.loads(form or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _label(name: str, field: Mapping[str, Any], wanted: bool) -> str:
    title = printable(str(field.get("title") or field.get("description") or name))
    choices = "/".join(printable(str(each)) for each in field.get("enum", ()))
    shown = f" ({choices})" if choices else " (yes/no)" if field.get("type") == "boolean" else ""
    return f"  {title}{shown}{'' if wanted else ', or nothing'}: "


def _reader(field: Mapping[str, Any], wanted: bool) -> Callable[[str], str]:
    """What makes JSON of a typed line; raises ValueError with a sentence for the person."""

    def read(said: str) -> str:
        if not said and not wanted:
            return ""
        value = _value(said, str(field.get("type", "string")))
        if field.get("enum") and value not in field["enum"]:
            raise ValueError("That is none of the choices.")
        if said == "":
            raise ValueError("This is needed.")
        return json.dumps(value, ensure_ascii=False)

    return read


def _value(said: str, kind: str) -> str | int | float | bool:
    try:
        match kind:
            case "integer":
                return int(said)
            case "number":
                return float(said)
            case "boolean":
                return {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}[
                    said.lower()
                ]
            case _:
                return said
    except (ValueError, KeyError):
        words = {"integer": "a whole number", "number": "a number", "boolean": "yes or no"}
        raise ValueError(f"That is not {words[kind]}.") from None
