from datetime import timedelta

import grpc
import pytest

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from chassis.errors import Violation
from chassis.status import Failure
from mesh import answer, wire


@pytest.mark.requirement("AGT-2")
def test_an_action_is_shown_with_its_state_and_effect() -> None:
    told = agent_pb2.Action(
        name="web_search",
        description="Searches the web.\nExamples:",
        agent="web",
        effect_class=chat_pb2.EFFECT_CLASS_READS_OUT,
        state=agent_pb2.ACTION_STATE_NOT_CONFIGURED,
    )
    line = wire.action(told)
    assert (line.name, line.state, line.effect) == ("web_search", "not configured", "reads out")
    assert (line.agent, line.description) == ("web", "Searches the web.")


@pytest.mark.requirement("SAFE-7")
@pytest.mark.parametrize(
    ("failure", "what", "cure"),
    [
        (
            Failure(code=grpc.StatusCode.UNAVAILABLE, reason=None, message="socket closed"),
            "The mesh does not answer.",
            "Is it running? `mesh status` tells; `make run` starts it.",
        ),
        (
            Failure(
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                reason="RATE_LIMITED",
                message="Too many calls.",
                retry_after=timedelta(seconds=7),
            ),
            "Too many calls.",
            "Try again in 7 s.",
        ),
        (
            Failure(
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason="INVALID_FIELD",
                message="The request has an invalid field.",
                violations=(Violation(field="message.parts", description="too many", rule="r"),),
                metadata={"request_id": "r-1"},
            ),
            "The request has an invalid field. (message.parts: too many)",
            "Correct what is named and send it again. Request id r-1.",
        ),
    ],
)
def test_a_failed_call_is_a_sentence_with_what_to_do(failure: Failure, what: str, cure: str) -> None:
    told = wire.call_failed(failure)

    assert (told.what, told.cure) == (what, cure)


@pytest.mark.requirement("RUN-3")
def test_every_kind_of_event_of_the_contract_is_understood() -> None:
    kinds = chat_pb2.ChatEvent.DESCRIPTOR.oneofs_by_name["event"].fields
    for kind in kinds:
        message = chat_pb2.ChatEvent(sequence=3, turn_id="t")
        getattr(message, kind.name).SetInParent()

        read = wire.event(message, documented=True)

        assert (read.sequence, read.turn) == (3, "t")
        assert f'"{kind.json_name}"' in read.document


def test_an_event_of_a_later_version_is_something_else() -> None:
    assert wire.event(chat_pb2.ChatEvent(sequence=1), documented=False).body == answer.Other()


def test_a_model_is_named_only_when_one_was_chosen() -> None:
    question = answer.Question(id="q", session="s", text="hi")

    assert not wire.new_message(question).HasField("options")
