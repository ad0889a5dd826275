"""What is asked of llm_svc, and what it answers."""

from __future__ import annotations

from assistant.generation.v1 import generation_pb2 as pb
from orchestrator_svc.effects import Generate
from orchestrator_svc.generation import Alive, ModelFrame
from orchestrator_svc.inputs import ModelStarted, Reasoned, StepFailed, StepFinished, Token, ToolRequested
from orchestrator_svc.material import ModelFacts, Order
from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.window import Window
from orchestrator_svc.wire import vocabulary as voc
from orchestrator_svc.wire.frames import window_message


def opening(step: Generate, order: Order) -> pb.GenerateRequest:
    """The frame that opens a stream with its first step."""
    return pb.GenerateRequest(
        start=pb.StartGeneration(
            model=step.choice.model,
            window=window(step.window),
            tools=map(_tool, step.tools),
            tool_choice=_choice(step),
            parameters=voc.parameters_part(step.parameters),
            placement=voc.PLACEMENTS[step.placement],
            max_cost_micro_usd=step.max_cost_micro_usd,
            prefix_key=order.session_id,
            explicit_model=step.choice.explicit,
            turn_id=order.turn_id,
            cache_account_id=order.account_id if order.use_response_cache else "",
            cache_epoch=order.cache_epoch,
        )
    )


def continuation(step: Generate) -> pb.GenerateRequest:
    """The frame that begins the next step of an open stream."""
    return pb.GenerateRequest(
        tool_results=pb.ToolResults(
            results=map(voc.result_part, step.results),
            max_cost_micro_usd=step.max_cost_micro_usd,
            window=window(step.window) if step.refitted else None,
            tool_choice=_choice(step),
            tools=map(_tool, step.tools) if step.retooled else (),
        )
    )


def stop() -> pb.GenerateRequest:
    """The frame that stops the step that runs."""
    return pb.GenerateRequest(cancel=pb.CancelGeneration())


def window(window_: Window) -> pb.Window:
    """What a model is shown."""
    return pb.Window(system=window_.system, messages=map(window_message, window_.messages))


def model_frame(message: pb.GenerateResponse) -> ModelFrame:
    """One frame of a stream; one that is not known says that the model lives."""
    match message.WhichOneof("frame"):
        case "started":
            return _started(message.started)
        case "text":
            return Token(text=message.text)
        case "reasoning":
            return Reasoned(text=message.reasoning.text, provider_state=message.reasoning.provider_state)
        case "tool_call":
            return ToolRequested(call=voc.call(message.tool_call))
        case "step_finished":
            done = message.step_finished
            return StepFinished(reason=voc.finish_reason(done.finish_reason), usage=voc.usage(done.usage))
        case "step_failed":
            return _failed(message.step_failed)
        case _:
            return Alive()


def facts(model: pb.Model) -> ModelFacts:
    """What the catalogue says of a model."""
    return ModelFacts(
        name=model.name,
        provider=model.provider,
        context_tokens=model.context_tokens,
        output_tokens=model.output_tokens,
        tools=model.tools,
        vision=model.vision,
        local=model.local,
        default=model.default,
        input_price=model.input_price_micro_usd,
        output_price=model.output_price_micro_usd,
    )


def _tool(spec: ToolSpec) -> pb.ToolSpec:
    return pb.ToolSpec(name=spec.name, description=spec.description, parameters_json_schema=spec.schema)


def _choice(step: Generate) -> pb.ToolChoice.ValueType:
    return pb.TOOL_CHOICE_NONE if step.withheld else pb.TOOL_CHOICE_AUTO


def _started(message: pb.GenerationStarted) -> ModelStarted:
    return ModelStarted(
        model=message.model,
        provider=message.provider,
        local=message.local,
        fallback_from=message.fallback_from,
        vision_from=message.vision_from,
        from_cache=message.from_cache,
    )


def _failed(message: pb.StepFailed) -> StepFailed:
    return StepFailed(
        reason=voc.reason_name(message.reason),
        message=message.message,
        retryable=message.retryable,
        usage=voc.usage(message.usage),
    )
