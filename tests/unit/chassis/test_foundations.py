from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from chassis import call, ids, telemetry
from chassis.call import Call
from chassis.clock import SystemClock
from chassis.errors import Internal, InvalidRequest, Overloaded, ServiceError, TokenMissing, Violation
from chassis.settings import Settings, describe, environment
from chassis.status import from_status, to_status
from chassis.tasks import Tasks
from chassis.telemetry import redact, scrub
from chassis.testing import FakeClock


def every_error() -> list[type[ServiceError]]:
    found, waiting = [], [ServiceError]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return [error for error in found if error.__module__ == "chassis.errors"]


def test_every_failure_has_a_code_a_reason_of_its_own_and_public_words() -> None:
    reasons = [error.reason for error in every_error()]
    assert reasons
    assert len(set(reasons)) == len(reasons)
    for error in every_error():
        assert error.code is not grpc.StatusCode.OK
        assert error.message.endswith(".")


def test_the_inside_of_a_failure_is_not_in_its_status() -> None:
    status = to_status(Internal("secret inside"), domain="d", request_id="r")
    assert "secret inside" not in str(status)


def test_a_status_can_be_read_back() -> None:
    error = InvalidRequest(
        violations=[Violation(field="a[0].b", description="too long", rule="string.max_len")]
    )
    failure = from_status(to_status(error, domain="d", request_id="r-1"))
    assert (failure.code, failure.reason, failure.request_id) == (error.code, "INVALID_FIELD", "r-1")
    assert failure.violations == (Violation(field="a[0].b", description="too long", rule="STRING_MAX_LEN"),)
    assert failure.retry_after is None
    assert from_status(to_status(Overloaded(), domain="d", request_id="r")).retry_after == timedelta(
        seconds=1
    )


def test_ids_are_of_version_7_and_sort_by_time() -> None:
    made = [ids.uuid() for _ in range(1000)]
    assert len(set(made)) == 1000
    parsed = UUID(made[0])
    assert (parsed.version, parsed.variant) == (7, "specified in RFC 4122")
    assert abs((parsed.int >> 80) - time.time() * 1000) < 5_000
    assert [each[:13] for each in made] == sorted(each[:13] for each in made)


def test_secrets_differ_and_fit_into_a_header() -> None:
    assert ids.token() != ids.token()
    assert len(ids.token(32)) == 43


def test_there_is_no_call_outside_of_one() -> None:
    with pytest.raises(LookupError):
        call.current()
    anyone = Call(request_id="r", method="/m", caller=None, deadline=time.monotonic() - 1, peer="unix:")
    with call.entered(anyone), pytest.raises(TokenMissing):
        call.current().user()
    assert anyone.remaining() == timedelta(0)
    assert call.current_or_none() is None


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


async def test_a_crashed_task_is_logged_and_the_others_live(stream: io.StringIO) -> None:
    telemetry.configure("test", fmt="json", stream=stream)

    async def crash() -> None:
        raise RuntimeError("oh")

    async with Tasks() as tasks:
        other = tasks.spawn("other", asyncio.Event().wait())
        await asyncio.wait([tasks.spawn("crashing", crash())])
        assert not other.done()
        assert len(tasks) == 1
    assert other.cancelled()
    line = json.loads(stream.getvalue())
    assert (line["message"], line["task"]) == ("background task crashed", "crashing")


async def test_closing_waits_for_what_a_task_does_at_its_end() -> None:
    ended = []

    async def slow_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    tasks = Tasks()
    tasks.spawn("slow", slow_end())
    await asyncio.sleep(0)
    await tasks.aclose()
    assert ended == [True]
    with pytest.raises(RuntimeError):
        tasks.spawn("late", slow_end())


@pytest.mark.requirement("SAFE-2")
@pytest.mark.parametrize("fmt", ["json", "text"])
def test_secrets_do_not_reach_the_log(stream: io.StringIO, fmt: telemetry.Format) -> None:
    telemetry.configure("test", fmt=fmt, stream=stream)
    log = telemetry.logger("test")
    names = ("token", "refresh_token", "password", "client_secret", "authorization", "api_key", "Cookie")
    log.info("something", **dict.fromkeys(names, "canary-1"), path="/kept here")
    try:
        raise RuntimeError("postgresql://mesh:canary-2@db/x Bearer canary-3 eyJcanary-4.eyJ.sig")
    except RuntimeError as error:
        log.error("failed", error=error)
    assert "canary" not in stream.getvalue()
    assert "/kept here" in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()


def test_a_line_of_json_is_one_line(stream: io.StringIO) -> None:
    telemetry.configure("test", fmt="json", stream=stream)
    telemetry.logger("test").info("two\nlines", note="a\nb")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["note"] == "a\nb"


def test_redacting_keeps_what_is_no_secret() -> None:
    assert redact({"token": 1, "method": "m"}) == {"token": "[redacted]", "method": "m"}
    assert scrub("Key exists\nDETAIL:  Key (email)=(a@b.c) exists.") == "Key exists\nDETAIL: [redacted]"


class RoomSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="T_ROOM_")

    port: int = Field(description="Where it listens.")
    key: SecretStr = Field(SecretStr("made-up"), description="Its key.")


def test_settings_come_from_the_environment_then_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("T_ROOM_PORT=1\nT_ROOM_KEY=from-file\n")
    monkeypatch.setenv("T_ROOM_PORT", "2")
    read = RoomSettings.read(tmp_path / "env")
    assert (read.port, read.key.get_secret_value()) == (2, "from-file")
    assert environment()["T_ROOM_PORT"] == "2"
    with pytest.raises(ValidationError):
        read.port = 3


def test_a_wrong_setting_is_named_and_its_value_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_ROOM_PORT", "canary")
    with pytest.raises(ValidationError, match="port") as caught:
        RoomSettings.read()
    assert "canary" not in str(caught.value)


def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("T_ROOM_PORT=1\nT_ROOM_PROT=1\n")
    with pytest.raises(ValidationError, match=r"(?i)t_room_prot"):
        RoomSettings.read(tmp_path / "env")


def test_settings_describe_themselves() -> None:
    port, key = describe(RoomSettings)
    assert (port.name, port.type, port.default, port.description) == (
        "T_ROOM_PORT",
        "int",
        "required",
        "Where it listens.",
    )
    assert (key.name, key.default) == ("T_ROOM_KEY", "(secret)")


async def test_sleepers_wake_in_order_and_at_their_own_time() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    start = clock.monotonic()
    async with Tasks() as tasks:
        for seconds in (3, 1, 2, 60):
            tasks.spawn("sleeper", sleeper(seconds))
        await clock.asleep(4)
        await clock.advance(timedelta(seconds=10))
    assert woken == [(1, start + 1), (2, start + 2), (3, start + 3)]
    assert clock.monotonic() == start + 10


async def test_the_system_clock_is_in_microseconds_and_never_goes_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(-1)
    assert abs(clock.now_us() / 1e6 - time.time()) < 5
    assert clock.monotonic() >= before


async def test_a_task_that_swallowed_its_cancellation_is_cancelled_again() -> None:
    begun = asyncio.Event()

    async def deaf() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    tasks = Tasks()
    tasks.spawn("deaf", deaf())
    await begun.wait()
    async with asyncio.timeout(20):
        await tasks.aclose()
    assert len(tasks) == 0
