"""The scripted model: plays a script, for tests, demos and benchmarks. Off unless a setting turns it on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import assert_never

from chassis.clock import Clock
from chassis.errors import ServiceError
from llm_svc import errors
from llm_svc.generation import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    Request,
    TextDelta,
    TokenCount,
    ToolCall,
    Usage,
    calls_in,
)
from llm_svc.providers.provider import Model, ModelState
from llm_svc.providers.script import Act, Ask, End, Fail, Report, Say, Script, ScriptInvalid, Think, Wait
from llm_svc.tokens import estimate

MODEL = Model(
    id="scripted",
    display_name="Scripted",
    provider="scripted",
    context_tokens=128_000,
    output_tokens=128_000,
    vision=True,
    local=True,
    state=ModelState.READY,
    loaded=1.0,
)

FAILURES: dict[str, type[ServiceError]] = {
    failure.reason: failure
    for failure in (
        errors.UnknownModel,
        errors.ModelNotLocal,
        errors.ParameterUnsupported,
        errors.ContextTooLong,
        errors.ModelLoading,
        errors.EngineBusy,
        errors.EngineCrashed,
        errors.ProviderFailed,
        errors.ProviderRefused,
        errors.ProviderLimited,
        errors.ProviderTimeout,
        errors.ProviderGarbage,
    )
}


class Scripted:
    """Provider that plays a script. A token of the script is one TextDelta, and counts as one token."""

    name = "scripted"

    def __init__(self, script: Script, clock: Clock) -> None:
        self._script = script
        self._clock = clock

    async def models(self) -> Sequence[Model]:
        """The one model, ``scripted``."""
        return (MODEL,)

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider. A script that does not work out fails as PROVIDER_GARBAGE, its cause in the log."""
        play = _Play(request)
        try:
            for act in self._script.play(request):
                if isinstance(act, Wait):
                    await self._clock.sleep(act.seconds)
                else:
                    for delta in play.take(act):
                        yield delta
                if play.full:
                    break
        except ScriptInvalid as wrong:
            raise errors.ProviderGarbage(str(wrong)) from wrong
        for delta in play.end():
            yield delta

    async def count(self, request: Request) -> TokenCount:
        """An estimate: a script has no tokenizer."""
        return estimate(request)

    async def close(self) -> None:
        """Nothing is held."""


class _Play:
    """What one step has said so far, and how it ends."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._limit = request.parameters.max_output_tokens
        self._spoken = 0
        self._calls = 0
        self._reason: FinishReason | None = None
        self._report: Report | None = None
        self.full = False

    def take(self, act: Act) -> list[Delta]:
        match act:
            case Say(text):
                return self._speak(TextDelta(text))
            case Think(text):
                return self._speak(ReasoningDelta(text))
            case Ask():
                return [self._call(act)]
            case Fail(reason):
                raise self._failure(reason)
            case End(reason):
                self._reason = reason
            case Report():
                self._report = act
            case Wait():
                pass
            case _:
                assert_never(act)
        return []

    def _speak(self, delta: Delta) -> list[Delta]:
        if self._limit is not None and self._spoken >= self._limit:
            self.full = True
            return []
        self._spoken += 1
        return [delta]

    def _call(self, act: Ask) -> ToolCall:
        self._calls += 1
        number = len(calls_in(self._request.messages)) + self._calls
        return ToolCall(id=f"call_{number}", name=act.name, arguments=act.arguments)

    def _failure(self, reason: str) -> ServiceError:
        failure = FAILURES.get(reason)
        if failure is None:
            raise ScriptInvalid(f"no provider fails with {reason}")
        return failure("the script says so")

    def end(self) -> list[Delta]:
        return [self._usage(), Finished(self._finish())]

    def _finish(self) -> FinishReason:
        if self._calls:
            return FinishReason.TOOL_CALLS
        if self.full:
            return FinishReason.LENGTH
        return self._reason or FinishReason.STOP

    def _usage(self) -> Usage:
        report = self._report
        if report is None:
            return Usage(
                input_tokens=estimate(self._request).tokens, output_tokens=self._spoken, estimated=True
            )
        return Usage(
            input_tokens=report.input,
            output_tokens=report.output,
            cached_tokens=report.cached,
            estimated=report.estimated,
        )
