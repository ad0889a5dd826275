"""What context_svc sends: the order of a turn, and what it says while the turn runs."""

from __future__ import annotations

from assistant.chat.v1 import chat_pb2 as chat
from assistant.generation.v1 import generation_pb2 as generation
from assistant.message.v1 import message_pb2 as msg
from assistant.turn.v1 import turn_pb2 as pb
from orchestrator_svc.conversation import Content, Described, Message, Part, Reasoning, Text, Trust
from orchestrator_svc.errors import FrameUnexpected
from orchestrator_svc.inputs import (
    CancelRequested,
    Done,
    EffectRecorded,
    Failed,
    HostAnswered,
    Outcome,
    YieldRequested,
)
from orchestrator_svc.material import (
    Answered,
    ApprovalAnswer,
    Budget,
    ChoiceSource,
    Counters,
    Decision,
    Fact,
    FormAnswer,
    Manner,
    Material,
    ModelChoice,
    Order,
    PersonsAnswer,
    Preference,
    Purpose,
    Resumption,
    Summary,
    Superseded,
)
from orchestrator_svc.runner import Command, NewGrant
from orchestrator_svc.wire import vocabulary as voc

_PURPOSES = {
    pb.TURN_PURPOSE_ACTION: Purpose.ACTION,
    pb.TURN_PURPOSE_TITLE: Purpose.TITLE,
    pb.TURN_PURPOSE_SUMMARY: Purpose.SUMMARY,
    pb.TURN_PURPOSE_MEMORY: Purpose.MEMORY,
}
SOURCES = {
    ChoiceSource.TURN: chat.MODEL_CHOICE_SOURCE_TURN,
    ChoiceSource.SESSION: chat.MODEL_CHOICE_SOURCE_SESSION,
    ChoiceSource.USER: chat.MODEL_CHOICE_SOURCE_USER,
    ChoiceSource.SUGGESTION: chat.MODEL_CHOICE_SOURCE_SUGGESTION,
    ChoiceSource.DEFAULT: chat.MODEL_CHOICE_SOURCE_DEFAULT,
    ChoiceSource.VISION: chat.MODEL_CHOICE_SOURCE_VISION,
}
_SOURCES = {number: source for source, number in SOURCES.items()}
_PERSON, _UNTRUSTED = Trust.PERSON, Trust.UNTRUSTED
_DECISIONS = {
    chat.APPROVAL_DECISION_APPROVE: Decision.APPROVE,
    chat.APPROVAL_DECISION_EDIT: Decision.EDIT,
}


def frame(message: pb.RunTurnRequest) -> Order | Command:
    """One frame. Raises FrameUnexpected for an empty one."""
    match message.WhichOneof("frame"):
        case "start":
            return order(message.start)
        case "effect_recorded":
            return EffectRecorded(call_id=message.effect_recorded.call_id)
        case "host_result":
            return host_answered(message.host_result.finished)
        case "cancel":
            return CancelRequested()
        case "yield":
            return YieldRequested()
        case "grants":
            return NewGrant(grant=message.grants.llm, media_grant=message.grants.media)
        case _:
            raise FrameUnexpected("an empty frame")


def order(start: pb.StartTurn) -> Order:
    """The order of a turn."""
    options = start.options
    named = [Preference(model=options.model, source=ChoiceSource.TURN)] if options.HasField("model") else []
    asked = [_preference(each) for each in start.models if each.model]
    return Order(
        turn_id=start.turn_id,
        answer_id=start.answer_id,
        session_id=start.session_id,
        account_id=start.account_id,
        attempt=start.attempt,
        purpose=_PURPOSES.get(start.purpose, Purpose.ANSWER),
        material=material(start.material),
        parameters=voc.parameters(options.parameters, start.material.manner.parameters),
        preferences=tuple(named + asked),
        budget=budget(start.budget),
        action=voc.call(start.action) if start.HasField("action") else None,
        action_approved=start.action_approved,
        action_left_behind=start.action_left_behind,
        only_actions=tuple(options.actions),
        without_actions=options.without_actions,
        use_response_cache=options.use_response_cache,
        cache_epoch=start.cache_epoch,
        resumption=resumption(start.resumption) if start.HasField("resumption") else None,
        grant=start.grants.llm,
        media_grant=start.grants.media,
    )


def material(message: pb.Material) -> Material:
    """What the agent may know."""
    return Material(
        messages=tuple(map(stored, message.messages)),
        summary=_summary(message.summary) if message.HasField("summary") else None,
        dropped_messages=message.dropped_messages,
        facts=tuple(map(_fact, message.facts)),
        manner=_manner(message.manner),
        placement=voc.placement(message.placement),
        turn_time_us=voc.microseconds(message.turn_time),
    )


def stored(message: msg.Message) -> Message:
    """A stored message. Text of the person is trusted when nothing else is said of it."""
    role = voc.role(message.role)
    default = _PERSON if message.role == msg.ROLE_USER else _UNTRUSTED
    return Message(
        role=role,
        parts=tuple([_part(part, default) for part in message.parts]),
        id=message.id,
        placement=voc.placement(message.placement),
    )


def budget(message: pb.Budget) -> Budget:
    """What a turn may use; absent figures take their defaults."""
    usual = Budget()
    return Budget(
        max_steps=message.max_steps or usual.max_steps,
        max_calls=message.max_calls or usual.max_calls,
        max_tool_time=voc.seconds(message.max_tool_time) or usual.max_tool_time,
        max_tokens=message.max_tokens,
        max_cost_micro_usd=message.max_cost_micro_usd if message.HasField("max_cost_micro_usd") else None,
        max_time=voc.seconds(message.max_time) or usual.max_time,
    )


def resumption(message: pb.Resumption) -> Resumption:
    """Where a turn stopped."""
    used = message.counters
    return Resumption(
        counters=Counters(
            steps=used.steps,
            calls=used.calls,
            tool_time=voc.seconds(used.tool_time),
            usage=voc.usage(used.usage),
            time=voc.seconds(used.time),
        ),
        steps=tuple(map(window_message, message.steps)),
        text=message.text,
        answers=tuple(map(_answered, message.answers)),
        model=_choice(message.model) if message.HasField("model") else None,
    )


def window_message(message: generation.WindowMessage) -> Message:
    """A message of a window."""
    return Message(role=voc.role(message.role), parts=tuple(map(_window_part, message.parts)))


def host_answered(finished: chat.ToolFinished) -> HostAnswered:
    """How an action of context_svc ended."""
    return HostAnswered(
        call_id=finished.call_id, outcome=_outcome(finished), duration=voc.seconds(finished.duration)
    )


def _outcome(finished: chat.ToolFinished) -> Outcome:
    if finished.outcome == chat.TOOL_OUTCOME_DONE:
        return Done(content=finished.result, sources=tuple(map(voc.source, finished.sources)))
    error = finished.error
    return Failed(
        reason=voc.reason_name(error.reason),
        message=error.message or finished.result,
        field=error.field,
        retryable=error.retryable,
    )


def _part(part: msg.Part, default: Trust) -> Part:
    content = _content(part)
    trust = _UNTRUSTED if _brought(part) else voc.trust(part.trust, default)
    return Part(content=content, trust=trust, provider_state=part.provider_state)


def _brought(part: msg.Part) -> bool:
    """Whether it is a file: whoever sent it, others may have written what is in it."""
    return part.WhichOneof("content") in ("image", "audio", "document")


def _content(part: msg.Part) -> Content:
    match part.WhichOneof("content"):
        case "text":
            return Text(text=part.text)
        case "tool_call":
            return voc.call(part.tool_call)
        case "tool_result":
            return voc.result(part.tool_result)
        case "reasoning":
            return Reasoning(text=part.reasoning.text)
        case _:
            return Described(text=_in_words(part))


def _in_words(part: msg.Part) -> str:
    """What a model is told of a file or place that it is not shown. Never more than is known."""
    match part.WhichOneof("content"):
        case "image":
            return (
                f"[picture: {part.image.alternative_text or part.image.media.file_name or 'no description'}]"
            )
        case "audio":
            return f"[speech: {part.audio.transcript}]" if part.audio.transcript else "[sound without words]"
        case "document":
            return f"[document: {part.document.media.file_name or 'without a name'}, not read]"
        case "location":
            place = part.location
            return f"[place: {place.label} {place.latitude:.5f}, {place.longitude:.5f}]"
        case _:
            return "[something this version does not know]"


def _window_part(part: generation.WindowPart) -> Part:
    trust = voc.trust(part.trust)
    match part.WhichOneof("content"):
        case "tool_call":
            content: Content = voc.call(part.tool_call)
        case "tool_result":
            content = voc.result(part.tool_result)
        case "reasoning":
            content = Reasoning(text=part.reasoning.text)
        case "image":
            content = Described(text="[picture]")
        case _:
            content = Text(text=part.text)
    return Part(content=content, trust=trust, provider_state=part.provider_state)


def _preference(message: pb.ModelPreference) -> Preference:
    return Preference(model=message.model, source=_SOURCES.get(message.source, ChoiceSource.USER))


def _summary(message: pb.Summary) -> Summary:
    return Summary(text=message.text, messages=message.messages, through=message.through_message_id)


def _fact(message: pb.ContextFact) -> Fact:
    return Fact(
        key=message.key,
        value_json=message.value_json,
        placement=voc.placement(message.placement),
        trust=voc.trust(message.trust),
        update_us=voc.microseconds(message.update_time),
    )


def _manner(message: pb.Manner) -> Manner:
    return Manner(
        language=message.language,
        time_zone=message.time_zone,
        units=message.units,
        tone=message.tone,
        instructions=message.instructions,
    )


def _choice(message: chat.ModelChoice) -> ModelChoice:
    return ModelChoice(
        model=message.model,
        provider=message.provider,
        source=_SOURCES.get(message.source, ChoiceSource.DEFAULT),
        skipped=message.skipped_model,
        fallback_from=message.fallback_from,
        local=message.local,
        from_cache=message.from_cache,
        input_price=message.input_price_micro_usd,
        output_price=message.output_price_micro_usd,
    )


def _answered(message: pb.PendingAnswer) -> Answered:
    return Answered(call=voc.call(message.pending.call), answer=_answer(message))


def _answer(message: pb.PendingAnswer) -> PersonsAnswer:
    match message.WhichOneof("answer"):
        case "approval":
            return ApprovalAnswer(
                decision=_DECISIONS.get(message.approval.decision, Decision.DENY),
                arguments_sha256=message.approval.arguments_sha256,
                edited_arguments=message.approval.edited_arguments_json,
            )
        case "input":
            return FormAnswer(declined=message.input.declined, content_json=message.input.content_json)
        case _:
            return Superseded()
