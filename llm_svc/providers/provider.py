"""The port every provider adapter implements."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from llm_svc.generation import Delta, Request, TokenCount


class ModelState(Enum):
    """Whether a model can answer now."""

    UNKNOWN = "unknown"
    READY = "ready"
    LOADING = "loading"
    FAILING = "failing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Micro-USD for a million tokens, and the day they were looked up (seconds since 1970).

    ``cached`` is for input that was not read again, ``stored`` for input that is kept for the next time; None
    where they cost what other input does. Of a window of more than ``above`` tokens every token costs what
    ``beyond`` says.
    """

    input: int
    output: int
    looked_up: int
    cached: int | None = None
    stored: int | None = None
    above: int = 0
    beyond: Price | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One model, and what it can do. ``price`` is None where nothing is charged or nothing is known.

    ``context_tokens`` counts what it reads and writes together. ``sampling`` says whether it takes a temperature
    and a top_p, ``stops`` how many texts may end its answer, ``tools_effort`` which effort of reasoning it wants
    to be asked for with tools. ``loaded`` goes from 0 to 1 while it loads.
    """

    id: str
    display_name: str
    provider: str
    context_tokens: int
    output_tokens: int
    vision: bool = False
    tools: bool = True
    json_schema: bool = True
    sampling: bool = True
    stops: int = 8
    tools_effort: str = ""
    local: bool = False
    price: Price | None = None
    state: ModelState = ModelState.UNKNOWN
    loaded: float = 0.0


class Provider(Protocol):
    """A source of models.

    ``generate`` gives the deltas of one model step: perhaps Doing while nothing is said yet; text, reasoning
    and whole tool calls as they come; then exactly one Usage, then exactly one Finished, then nothing. What the
    provider reports before the end may come as a Usage too: the newest one is that of the step so far.
    Finished says TOOL_CALLS if and only if a ToolCall was given. Nothing is asked of the model before the
    first ``anext``.

    Closing the generator or cancelling the task that reads it ends the work at the provider at once and
    frees what it held; of such a step nothing more is reported. A slow reader slows the provider, nothing is
    buffered without bound.

    Failures are raised as the errors of ``llm_svc.errors``, never as a vendor's, before or after deltas;
    after one nothing follows. A provider never retries and never asks another model.
    """

    @property
    def name(self) -> str:
        """The provider's name, unique in the room."""

    async def models(self) -> Sequence[Model]:
        """The models it answers for; quick, from what is known already."""

    def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """The deltas of one step; see the class."""

    async def count(self, request: Request) -> TokenCount:
        """The tokens of the request's window, counted where the provider's tokenizer is at hand."""

    async def close(self) -> None:
        """End what runs and let go of connections and processes. May be called twice."""
