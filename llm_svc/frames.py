"""What a caller says on the stream of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from llm_svc.generation import Message, Request, Tool, ToolChoice, ToolResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Opens a run: the first step's request, and what it may cost at worst in micro-USD.

    ``explicit`` says that somebody chose the model, so that no other may answer. ``cache_account`` is the account
    whose cached answers may be used, of ``cache_epoch`` alone; empty for none. ``turn`` says for which one it
    claims to be.
    """

    request: Request
    max_cost: int | None = None
    turn: str = ""
    explicit: bool = False
    cache_account: str = ""
    cache_epoch: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Answers the calls of the last step; ``messages`` replaces the whole window when it was fitted anew.

    ``tools`` are those on offer from now on; None: the same as before.
    """

    results: tuple[ToolResult, ...]
    messages: tuple[Message, ...] | None = None
    tool_choice: ToolChoice = ToolChoice.AUTO
    max_cost: int | None = None
    tools: tuple[Tool, ...] | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stops the model."""


Frame: TypeAlias = Start | Results | Cancel
