"""`mesh account` on what is known: preferences, consents, memories, against a real context_svc."""

import io
from pathlib import Path

import grpc
import pytest
from rich.console import Console

from assistant.context.v1 import context_pb2
from assistant.context.v1.context_pb2_grpc import ContextServiceStub
from mesh.__main__ import parser
from mesh.chat import signed_in
from mesh.errors import CallFailed, ValueUnusable
from mesh.known import wire
from mesh.known.actions import ACTIONS
from mesh.places import Places
from tests.conftest import Place
from tests.interaction.context_svc.conftest import Room, start
from tests.interaction.mesh.test_people import room

__all__ = ["room", "start"]


@pytest.fixture
def database_place(tmp_path: Path) -> Place:
    """One engine: what is stored and read is proved on both beside this."""
    return Place(url=f"sqlite://{tmp_path}/t.db", schema="")


@pytest.fixture
async def terminal(room: Room, where: Places) -> "Terminal":
    return Terminal(where)


class Terminal:
    """A person who types commands; what they read."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def type(self, *words: str, code: int = 0) -> str:
        told = parser().parse_args(["account", *words])
        out = io.StringIO()
        assert await ACTIONS[told.action](self._places, told, Console(file=out, width=200)) == code
        return out.getvalue()

    async def line(self, command: str, beginning: str) -> list[str]:
        found = [
            line.split() for line in (await self.type(command)).splitlines() if line.startswith(beginning)
        ]
        return found[0] if found else []

    async def write(self, request: context_pb2.UpdateContextRequest) -> None:
        async with signed_in(self._places) as (channel, sign_in):
            metadata = (("authorization", f"Bearer {await sign_in.bearer()}"),)
            await ContextServiceStub(channel).UpdateContext(request, metadata=metadata)


@pytest.mark.requirement("CTX-5")
async def test_a_person_sees_and_sets_preferences(terminal: Terminal) -> None:
    assert await terminal.line("preferences", "units") == ["units", "metric", "server"]
    assert await terminal.line("preferences", "model") == ["model"]
    for name, value in (
        ("units", "imperial"),
        ("temperature", "0.3"),
        ("tone", "brief"),
        ("memory", "off"),
        ("keep-messages", "90"),
        ("keep-positions", "forever"),
    ):
        assert f"{name} is {value}" in await terminal.type("prefer", name, value)
    assert await terminal.line("preferences", "units") == ["units", "imperial", "you"]
    assert await terminal.line("preferences", "temperature") == ["temperature", "0.3", "you"]
    assert await terminal.line("preferences", "memory") == ["memory", "off", "you"]
    assert await terminal.line("preferences", "keep-messages") == ["keep-messages", "90", "days", "you"]
    assert await terminal.line("preferences", "keep-positions") == [
        "keep-positions",
        "until",
        "deleted",
        "you",
    ]
    assert "taken back" in await terminal.type("prefer", "units")
    assert await terminal.line("preferences", "units") == ["units", "metric", "server"]
    for name, value in (("units", "cubits"), ("memory", "maybe"), ("temperature", "hot"), ("colour", "red")):
        with pytest.raises(ValueUnusable):
            await terminal.type("prefer", name, value)
    with pytest.raises(CallFailed, match="temperature"):
        await terminal.type("prefer", "temperature", "9")


@pytest.mark.requirement("CTX-4")
async def test_a_person_gives_and_withdraws_consent_for_this_device(terminal: Terminal) -> None:
    assert "reports nothing" in await terminal.type("consent")
    given = await terminal.type("consent", "location", "yes")
    assert given.splitlines()[1].split() == ["location", "yes", "here", "only"]
    place = context_pb2.UpdateContextRequest(request_id="6f2c1f4e-8f9f-4b6f-9d6f-0a4f2f0b8f11")
    place.device.location.latitude = 48.2
    await terminal.write(place)
    assert (await terminal.type("consent", "location", "yes", "--anywhere")).split()[-1] == "anywhere"
    assert (await terminal.type("consent", "location", "no")).splitlines()[1].split() == ["location", "no"]
    place.request_id = "6f2c1f4e-8f9f-4b6f-9d6f-0a4f2f0b8f12"
    with pytest.raises(grpc.aio.AioRpcError, match="no consent"):
        await terminal.write(place)
    with pytest.raises(ValueUnusable):
        await terminal.type("consent", "thoughts", "yes")


@pytest.mark.requirement("CTX-6")
async def test_a_person_lists_corrects_and_forgets_memories(terminal: Terminal) -> None:
    assert "Nothing is remembered" in await terminal.type("memories")
    await terminal.type("remember", "I have a dog")
    line = await terminal.line("memories", "I have")
    assert line[:5] == ["I", "have", "a", "dog", "you"]
    await terminal.type("correct", line[-1], "I have two dogs")
    assert await terminal.line("memories", "I have two dogs")
    with pytest.raises(ValueUnusable):
        await terminal.type("correct", "never", "was")
    assert "no such memory" in await terminal.type("forget", "never", code=1)
    await terminal.type("remember", "I like tea")
    assert "1 forgotten" in await terminal.type("forget", line[-1])
    assert not await terminal.line("memories", "I have")
    assert "1 forgotten" in await terminal.type("forget", "all")
    assert "Nothing is remembered" in await terminal.type("memories")


@pytest.mark.requirement("CTX-8")
async def test_suggestions_are_shown_and_an_unknown_one_is_refused(terminal: Terminal) -> None:
    assert "Nothing is proposed" in await terminal.type("suggestions")
    with pytest.raises(CallFailed, match="No such suggestion"):
        await terminal.type("suggestions", "never", "accept")
    proposed = context_pb2.Suggestion(
        id="s1",
        field_path="units",
        proposed=context_pb2.Preferences(units=context_pb2.UNIT_SYSTEM_IMPERIAL),
        state=context_pb2.SUGGESTION_STATE_PENDING,
        evidence=[context_pb2.SuggestionEvidence()] * 5,
    )
    line = wire.suggestion(proposed)
    assert (line.name, line.value, line.turns, line.state) == ("units", "imperial", 5, "pending")
