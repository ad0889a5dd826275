"""Letting a local model read what every conversation begins with, before anybody waits for it."""

from __future__ import annotations

from chassis import telemetry
from chassis.clock import Clock
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.conversation import Message, Placement, Role, said
from orchestrator_svc.effects import Generate
from orchestrator_svc.errors import PeerFailed, Reason
from orchestrator_svc.generation import Models
from orchestrator_svc.inputs import StepFailed, StepFinished
from orchestrator_svc.material import ModelChoice, ModelFacts, Order, Parameters
from orchestrator_svc.prompt import StandingPrefix
from orchestrator_svc.selection import Limits
from orchestrator_svc.window import Window

log = telemetry.logger(__name__)

_TRIES, _PAUSE_SECONDS = 60, 2.0


async def warm_up(models: Models, catalogue: Catalogue, limits: Limits, clock: Clock) -> None:
    """Ask the default model for one token behind the standing prefix, if the model runs here.

    Waits up to two minutes for llm_svc and its model. A failure changes nothing but the first answer's start.
    """
    for _ in range(_TRIES):
        try:
            await _once(models, catalogue, limits)
        except PeerFailed as error:
            log.debug("warm-up waits", reason=error.reason)
            await clock.sleep(_PAUSE_SECONDS)
        else:
            return
    log.warning("warm-up gave up", tries=_TRIES)


async def _once(models: Models, catalogue: Catalogue, limits: Limits) -> None:
    known = await models.catalogue(())
    default = next((model for model in known if model.default), None)
    if default is None or not default.local:
        return
    step = _step(default, catalogue.now().standing_prefix(limits, default.context_tokens))
    async with models.open(step, Order(turn_id="warm-up")) as steps:
        async for frame in steps:
            match frame:
                case StepFailed(reason=reason, retryable=True):
                    raise PeerFailed(reason)
                case StepFailed(reason=reason):
                    log.warning("warm-up failed", reason=reason)
                    return
                case StepFinished(usage=usage):
                    log.info("warm", model=default.name, prompt=usage.input_tokens)
                    return
                case _:
                    pass
    raise PeerFailed(Reason.PEER_UNAVAILABLE)


def _step(model: ModelFacts, prefix: StandingPrefix) -> Generate:
    hello = Message(role=Role.USER, parts=(said("Hello"),))
    return Generate(
        step=1,
        choice=ModelChoice(model=model.name),
        window=Window(system=prefix.system, messages=(hello,)),
        tools=prefix.tools if model.tools else (),
        withheld=not model.tools,
        parameters=Parameters(max_output_tokens=1),
        placement=Placement.LOCAL_ONLY,
    )
