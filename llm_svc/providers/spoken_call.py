"""A tool call that a model speaks as text: ``{"name": …, "arguments": …}``, bare, fenced or tagged.

The safety net under the router: text that may be the beginning of such a call is held back until that is
decided, everything else passes at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

MAX_HELD_CHARS = 8_192
_OPENING = re.compile(r"\s*(?:```(?:json)?\s*|<tool_call>\s*)?\{\s*\"name\"\s*:")
_CLOSING = re.compile(r"\s*(?:```|</tool_call>)?\s*\Z")
_BEGINNINGS = ('{"name":', '```json{"name":', '```{"name":', '<tool_call>{"name":')


class Spoken(msgspec.Struct, frozen=True):
    """The call as the model spoke it; its arguments are still JSON text."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class Listener:
    """Text in, text out; what was held back to the end may be a call of one of the tools."""

    def __init__(self, tools: Collection[str]) -> None:
        self._tools = frozenset(tools)
        self._passing = not tools
        self.held = ""

    def hear(self, text: str) -> str:
        """The text that may be shown now; empty while a call may be coming."""
        if self._passing:
            return text
        self.held += text
        if _may_be_call(self.held):
            return ""
        self._passing, held, self.held = True, self.held, ""
        return held

    def call(self) -> Spoken | None:
        """The call that the held text is, if it is one."""
        call = _parse(self.held)
        return call if call is not None and call.name in self._tools else None


def _may_be_call(text: str) -> bool:
    if len(text) > MAX_HELD_CHARS:
        return False
    packed = "".join(text.split())
    return bool(_OPENING.match(text)) or any(beginning.startswith(packed) for beginning in _BEGINNINGS)


def _parse(text: str) -> Spoken | None:
    start = text.find("{")
    if start < 0 or not _OPENING.match(text):
        return None
    closing = _CLOSING.search(text)
    try:
        return msgspec.json.decode(text[start : closing.start() if closing else None], type=Spoken)
    except msgspec.DecodeError:
        return None
