"""current_time: the date and time in a zone or a city."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from functools import cache
from typing import Annotated

import msgspec

from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool, ToolFailure


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """Where to tell the time."""

    zone: Annotated[
        str,
        msgspec.Meta(max_length=64, description='Zone or city, like "Asia/Tokyo" or "Tokyo"; empty: here'),
    ] = ""


@cache
def _zones() -> dict[str, str]:
    """Every zone by its own name and by its city's, in lower case. Where cities share one, its first zone."""
    names = sorted(zoneinfo.available_timezones() - {"localtime", "posixrules", "Factory"})
    regions = [name for name in names if "/" in name and not name.startswith("Etc/")]
    cities = {_key(name.rsplit("/", 1)[1]): name for name in reversed(regions)}
    return {**cities, **{_key(name): name for name in names}}


def _key(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _zone(asked: str) -> zoneinfo.ZoneInfo:
    """The zone of that name or city. Raises ToolFailure that names the field."""
    found = _zones().get(_key(asked)) or _zones().get(_key(asked.split(",")[0]))
    if found is None:
        raise ToolFailure(
            f"No time zone or city called {asked[:64]!r}. Give an IANA zone such as Europe/Paris.",
            reason=Reason.ARGUMENTS_INVALID,
            field="zone",
        )
    return zoneinfo.ZoneInfo(found)


async def _current_time(arguments: Place, setting: Setting) -> Output:
    zone = _zone(arguments.zone or setting.manner.time_zone or "UTC")
    moment = datetime.fromtimestamp(setting.now_us / 1e6, UTC).astimezone(zone)
    offset = moment.strftime("%z")
    return Output(
        content=f"{moment:%A}, {moment:%Y-%m-%d %H:%M} in {zone.key} (UTC{offset[:3]}:{offset[3:]})"
    )


CLOCK = Tool(
    name="current_time",
    description="Tells today's date, the weekday and the time, here or in a zone or city.",
    arguments=Place,
    perform=_current_time,
    agent="clock",
    effect=Effect.NONE,
    timeout=5.0,
    examples=(Example(request="What time is it in Tokyo?", arguments={"zone": "Asia/Tokyo"}),),
)
