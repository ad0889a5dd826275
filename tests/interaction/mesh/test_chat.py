"""`mesh chat` against a real door on real sockets: sign-in, streaming, cuts, Ctrl-C, scripts."""

import asyncio
import io
import json
import os
import signal
from dataclasses import replace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from assistant.chat.v1 import chat_pb2
from mesh.chat import chat, models
from mesh.credentials import Wallet
from mesh.errors import CallFailed, NotRunning, SignInNeeded
from mesh.places import Places
from mesh.signin import OWNER
from mesh.status import status
from mesh.talk import Wish
from tests.interaction.mesh.conftest import Door, events, say


async def once(where: Places, text: str = "hi", **wish: str | bool) -> tuple[int, str]:
    out = io.StringIO()
    async with asyncio.timeout(30):
        code = await chat(where, Wish(once=text, **wish), Console(file=out, width=200))  # type: ignore[arg-type]
    return code, out.getvalue()


def wallet(where: Places) -> Wallet:
    return Wallet(where.client / "credentials.json")


@pytest.mark.requirement("RUN-3")
async def test_a_newcomer_types_nothing_and_is_answered(where: Places, door: Door) -> None:
    door.turns = [say("It is ", "391.", action="calculator")]

    assert await once(where, "What is 17*23?") == (0, "It is 391.\n")

    kept = wallet(where).load()
    assert kept is not None
    assert door.account == (OWNER, kept.password)
    assert wallet(where).path.stat().st_mode & 0o777 == 0o600
    assert [part.text for part in door.asked[0].parts] == ["What is 17*23?"]


@pytest.mark.requirement("RUN-3")
async def test_the_second_time_the_stored_sign_in_is_used(where: Places, door: Door) -> None:
    door.turns = [say("one"), say("two")]
    await once(where)
    first = wallet(where).load()

    assert await once(where) == (0, "two\n")
    assert wallet(where).load() == first


@pytest.mark.requirement("RUN-3")
async def test_an_answer_to_register_that_was_lost_is_made_up_for(where: Places, door: Door) -> None:
    door.turns, door.lose_register = [say("yes")], True
    with pytest.raises(CallFailed, match="does not answer"):
        await once(where)
    door.lose_register = False

    assert await once(where) == (0, "yes\n")


@pytest.mark.requirement("RUN-3")
async def test_an_expiring_token_is_refreshed_once_by_two_terminals_at_once(
    where: Places, door: Door
) -> None:
    door.turns = [say("a"), say("b"), say("c")]
    await once(where)
    stored = wallet(where).load()
    assert stored is not None
    wallet(where).store(replace(stored, access_expires_us=0))

    answers = await asyncio.gather(once(where, "x"), once(where, "y"))

    assert sorted(text for _, text in answers) == ["b\n", "c\n"]
    assert door.refreshed == 1


@pytest.mark.requirement("RUN-3")
async def test_a_refused_refresh_signs_the_owners_account_in_again(where: Places, door: Door) -> None:
    door.turns = [say("a"), say("b")]
    await once(where)
    stored = wallet(where).load()
    assert stored is not None
    wallet(where).store(replace(stored, access_expires_us=0))
    door.refuse_refresh = True

    assert await once(where) == (0, "b\n")


@pytest.mark.requirement("RUN-3")
async def test_a_script_without_a_sign_in_on_a_used_mesh_is_told_what_to_do(
    where: Places, door: Door
) -> None:
    door.code = ""

    with pytest.raises(SignInNeeded, match="`mesh chat` once in a terminal"):
        await once(where)


@pytest.mark.requirement("RUN-3")
@pytest.mark.requirement("CHAT-3")
@pytest.mark.parametrize("cuts", [[0], [1], [3], [2, 0, 4]])
async def test_a_cut_answer_goes_on_without_a_gap_or_a_double(
    where: Places, door: Door, cuts: list[int]
) -> None:
    door.turns, door.cuts = [say("one ", "two ", "three")], list(cuts)

    assert await once(where) == (0, "one two three\n")
    assert door.streams == len(cuts) + 1
    assert len(door.asked) == 1


@pytest.mark.requirement("RUN-3")
async def test_a_stream_that_ends_too_soon_without_an_error_is_taken_up_again(
    where: Places, door: Door
) -> None:
    whole = say("all of it")
    door.turns = [whole[:3]]

    async def complete(event: chat_pb2.ChatEvent) -> None:
        if door.streams == 2:
            door.turns[0] = whole

    door.hold = complete
    code, text = await once(where)

    assert (code, text) == (0, "all of it\n")


@pytest.mark.requirement("RUN-3")
async def test_json_prints_each_event_as_a_line_of_the_contracts_json(where: Places, door: Door) -> None:
    door.turns, door.cuts = [say("hello", action="clock")], [2]

    code, text = await once(where, as_json=True)

    read = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [int(each["sequence"]) for each in read] == list(range(1, len(door.turns[0]) + 1))
    assert read[4]["textDelta"] == {"text": "hello"}


@pytest.mark.requirement("RUN-3")
async def test_a_failed_turn_ends_with_code_1(where: Places, door: Door) -> None:
    failed = {"turn_failed": {"reason": "ERROR_REASON_PARTIAL", "message": "The model broke off."}}
    door.turns = [events({"turn_accepted": {}}, {"text_delta": {"text": "begun"}}, failed)]

    assert await once(where) == (1, "begun\n")


@pytest.mark.requirement("RUN-3")
async def test_a_turn_that_waits_for_consent_ends_a_script_with_code_3(where: Places, door: Door) -> None:
    door.turns = [events({"turn_accepted": {}}, {"approval_requested": {"action": "send_mail"}})]

    assert (await once(where))[0] == 3


@pytest.mark.requirement("RUN-3")
async def test_ctrl_c_stops_the_turn_and_keeps_what_was_said(where: Places, door: Door) -> None:
    door.turns = [events({"turn_accepted": {}}, {"text_delta": {"text": "begun"}}, {"turn_cancelled": {}})]

    async def press(event: chat_pb2.ChatEvent) -> None:
        if event.HasField("turn_cancelled"):
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(20):
                while not door.cancelled:  # noqa: ASYNC110  # the call under test sets it
                    await asyncio.sleep(0.01)

    door.hold = press

    assert await once(where) == (130, "begun\n")
    assert door.cancelled == ["t1"]


@pytest.mark.requirement("RUN-3")
async def test_the_named_model_and_session_are_used(where: Places, door: Door) -> None:
    door.turns = [say("x")]

    await once(where, model="tiny-1", session="s-7")

    assert (door.asked[0].options.model, door.asked[0].session_id) == ("tiny-1", "s-7")
    assert door.sessions == []


@pytest.mark.requirement("RUN-3")
async def test_a_dialogue_knows_its_commands(where: Places, door: Door) -> None:
    door.turns = [say("first"), say("second"), say("third")]
    out = io.StringIO()
    typed = (
        "/help\rhi\r/model\r/model tiny-1\r/new\ragain\r/sessions\r/sessions 2\ronce more\r/nonsense\r/quit\r"
    )

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(typed)
        async with asyncio.timeout(30):
            assert await chat(where, Wish(), Console(file=out, width=200)) == 0

    told = out.getvalue()
    assert f"Signed in as {OWNER}" in told
    for part in (
        "/sessions [N]",
        "first",
        "second",
        "third",
        "Tiny",
        "Going on with “Session 1”",
        "no /nonsense",
    ):
        assert part in told
    assert [message.options.model for message in door.asked] == ["", "tiny-1", "tiny-1"]
    assert [message.session_id for message in door.asked] == [
        door.sessions[1].id,
        door.sessions[0].id,
        door.sessions[1].id,
    ]


@pytest.mark.requirement("RUN-3")
async def test_a_dialogue_asks_before_an_action_and_sends_the_answer(where: Places, door: Door) -> None:
    asked = {"action": "send_mail", "arguments_json": "{}", "approval_id": "a1", "arguments_sha256": "0" * 64}
    door.turns = [events({"turn_accepted": {}}, {"approval_requested": asked}, {"turn_finished": {}})]

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("write to Anna\ry\r/quit\r")
        async with asyncio.timeout(30):
            await chat(where, Wish(), Console(file=io.StringIO()))

    answered = door.answered[0].approval
    assert (answered.approval_id, answered.decision) == ("a1", chat_pb2.APPROVAL_DECISION_APPROVE)


@pytest.mark.requirement("CHAT-11")
async def test_a_person_reads_what_the_last_answer_used_and_sent_out(where: Places, door: Door) -> None:
    door.turns = [say("first")]
    out = io.StringIO()

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("/receipt\rhi\r/receipt\r/quit\r")
        async with asyncio.timeout(30):
            await chat(where, Wish(), Console(file=out, width=200))

    told = out.getvalue()
    assert "Nothing was answered here yet." in told
    for part in (
        "far-1 (afar)",
        "1,200 read (0 cached), 34 written, estimated",
        "$0.001500",
        "first token 250.0 ms",
        "wait 75.0 s",
        "calculator: done",
        "prompt to afar, 4,096 bytes",
    ):
        assert part in told


async def type_in(where: Places, typed: str) -> str:
    out = io.StringIO()
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(typed)
        async with asyncio.timeout(30):
            assert await chat(where, Wish(), Console(file=out, width=200)) == 0
    return out.getvalue()


ASKED = {
    "action": "send_mail",
    "arguments_json": '{"to":"Anna"}',
    "approval_id": "a1",
    "arguments_sha256": "0" * 64,
}
FORM = json.dumps(
    {
        "type": "object",
        "properties": {
            "size": {"type": "integer", "title": "Size"},
            "colour": {"enum": ["red", "blue"]},
            "gift": {"type": "boolean"},
        },
        "required": ["size"],
    }
)


@pytest.mark.requirement("AGT-4")
async def test_a_dialogue_edits_the_arguments_before_it_agrees(where: Places, door: Door) -> None:
    door.turns = [events({"turn_accepted": {}}, {"approval_requested": ASKED}, {"turn_finished": {}})]

    told = await type_in(where, 'write\redit\r\x01\x0bno\r\x01\x0b{"to":"Bob"}\r/quit\r')

    answered = door.answered[0].approval
    assert answered.decision == chat_pb2.APPROVAL_DECISION_EDIT
    assert json.loads(answered.edited_arguments_json) == {"to": "Bob"}
    assert answered.arguments_sha256 == "0" * 64
    assert "not a JSON object" in told


@pytest.mark.requirement("AGT-4")
async def test_a_dialogue_fills_the_form_of_a_question(where: Places, door: Door) -> None:
    asked = {"input_id": "i1", "message": "Which shirt?", "form_json_schema": FORM}
    door.turns = [events({"turn_accepted": {}}, {"input_requested": asked}, {"turn_finished": {}})] * 2

    told = await type_in(where, "a shirt\rbig\r\x01\x0b42\rgreen\r\x01\x0bblue\r\ranother\r\x04/quit\r")

    first, second = (request.input for request in door.answered)
    assert (first.input_id, json.loads(first.content_json)) == ("i1", {"size": 42, "colour": "blue"})
    assert (second.declined, second.content_json) == (True, "")
    assert "not a whole number" in told
    assert "none of the choices" in told


@pytest.mark.requirement("CHAT-9")
async def test_a_dialogue_edits_and_tries_again_as_branches(where: Places, door: Door) -> None:
    door.turns, door.branch_turns = [say("first")], [say("edited"), say("again")]

    told = await type_in(where, "/edit early\rhi\r/edit hello\r/retry\r/edit\r/quit\r")

    assert "Nothing was said here yet." in told
    assert [request.message_id for request in door.edited] == [door.asked[0].client_message_id]
    assert door.edited[0].replacement.parts[0].text == "hello"
    assert [request.turn_id for request in door.again] == ["b1"]
    for part in ("first", "edited", "again", "/edit TEXT"):
        assert part in told


@pytest.mark.requirement("SAFE-7")
async def test_a_dialogue_says_what_to_do_about_a_failure_and_keeps_what_was_typed(
    where: Places, door: Door
) -> None:
    door.turns, door.refuse = [say("hello")], ["QUOTA_EXCEEDED"]

    told = await type_in(where, "hi the\rre\r/quit\r")

    assert "Not now. Delete something that is no longer needed first." in told
    assert "hello" in told
    assert [message.parts[0].text for message in door.asked] == ["hi there"]


@pytest.mark.requirement("CHAT-10")
async def test_a_dialogue_stops_and_clears(where: Places, door: Door) -> None:
    door.turns = [say("first")]

    told = await type_in(where, "/clear\r/stop\rhi\r/stop\r/clear\r/retry\r/quit\r")

    assert told.count("Nothing was said here yet.") == 3
    assert door.cancelled == ["t1"]
    assert door.cleared == [door.sessions[0].id]
    assert "empty now" in told


@pytest.mark.requirement("RUN-3")
async def test_without_a_mesh_one_sentence_says_so_and_what_to_do(where: Places) -> None:
    with pytest.raises(NotRunning) as failure:
        await once(where)

    assert failure.value.cure == "Start one with `make run` (or `mesh up`)."


async def test_models_lists_the_catalogue(where: Places, door: Door) -> None:
    out = io.StringIO()

    assert await models(where, Console(file=out, width=200)) == 0
    assert "tiny-1" in out.getvalue()


@pytest.mark.requirement("RUN-4")
async def test_status_is_not_0_while_a_room_does_not_serve_and_shows_what_the_mesh_knows(
    where: Places, door: Door
) -> None:
    out = io.StringIO()

    code = await status(where, Console(file=out, width=200))

    lines = {line.split()[0]: line for line in out.getvalue().splitlines() if line}
    assert code == 1
    assert "not serving" in lines["llm"]
    assert lines["context"].split()[-2:] == ["0.1.0", "7"]
    assert "2 running" in lines["turns:"]
