"""The time somewhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator_svc.material import Manner
from orchestrator_svc.tools.clock import CLOCK
from orchestrator_svc.tools.tool import Setting, ToolFailure

NOON = round(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp() * 1e6)


async def told(arguments: str, zone: str = "") -> str:
    return (await CLOCK.run(arguments, Setting(now_us=NOON, manner=Manner(time_zone=zone)))).content


@pytest.mark.requirement("TOOL-5")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"zone": "Asia/Tokyo"}', "Wednesday, 2026-07-01 21:00 in Asia/Tokyo (UTC+09:00)"),
        ('{"zone": "tokyo"}', "Wednesday, 2026-07-01 21:00 in Asia/Tokyo (UTC+09:00)"),
        ('{"zone": "New York"}', "Wednesday, 2026-07-01 08:00 in America/New_York (UTC-04:00)"),
        ('{"zone": "Lisbon, Portugal"}', "Wednesday, 2026-07-01 13:00 in Europe/Lisbon (UTC+01:00)"),
        ('{"zone": "Kolkata"}', "Wednesday, 2026-07-01 17:30 in Asia/Kolkata (UTC+05:30)"),
        ("{}", "Wednesday, 2026-07-01 12:00 in UTC (UTC+00:00)"),
        ("", "Wednesday, 2026-07-01 12:00 in UTC (UTC+00:00)"),
    ],
)
async def test_the_time_in_a_zone_or_city(arguments: str, expected: str) -> None:
    assert await told(arguments) == expected


async def test_the_persons_own_zone_is_the_default() -> None:
    assert "14:00 in Europe/Berlin" in await told("{}", "Europe/Berlin")


@pytest.mark.parametrize("zone", ["Atlantis", "../../etc/passwd", "Europe/", "localtime"])
async def test_a_place_that_no_zone_has_names_the_field(zone: str) -> None:
    with pytest.raises(ToolFailure) as failure:
        await told(f'{{"zone": "{zone}"}}')
    assert (failure.value.field, failure.value.reason) == ("zone", "ARGUMENTS_INVALID")
