"""A time as a person says it, made a moment: code counts the days, no model does. Pure.

"in 20 minutes" · "in half an hour" · "today at 18:30" · "tomorrow at six" · "friday 9 am" · "next monday" · "noon" ·
"2026-12-24 18:00" · ISO 8601 with or without an offset. A day without a time means nine in the morning; a bare hour
from one to six means the afternoon, unless it is written with two digits or minutes.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

_NUMBERS = [
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
]
_WORDS = {word: number for number, word in enumerate(_NUMBERS)} | {"a": 1, "an": 1, "thirty": 30, "forty": 40}
_UNITS = {
    "second": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "hr": timedelta(hours=1),
    "h": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_PARTS = {
    "morning": time(9),
    "noon": time(12),
    "midday": time(12),
    "afternoon": time(15),
    "evening": time(19),
    "tonight": time(20),
    "night": time(21),
    "midnight": time(0),
}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MORNING = time(9)
_AFTERNOON = 6  # a bare hour up to this one means the afternoon
_NUMBER = rf"(?P<number>\d+(?:\.\d+)?|half an?|{'|'.join(_WORDS)})"
_SPAN = re.compile(rf"{_NUMBER}\s*(?P<unit>{'|'.join(_UNITS)})s?\b")
_CLOCK = re.compile(
    rf"(?:at |by |@ ?)?(?P<hour>\d{{1,2}}|{'|'.join(_NUMBERS[1:13])})"
    r"(?:[:.](?P<minute>\d{2}))?\s*(?:o'?clock)?\s*(?P<half>a\.?m\.?|p\.?m\.?)?\s*(?P<part>in the \w+)?"
)
_DATE = re.compile(r"(?:on )?(?P<date>\d{4}-\d{2}-\d{2})\b")


class Unclear(ValueError):
    """Nobody can say which moment is meant."""


def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name; UTC for none and for one that is not known."""
    return ZoneInfo(name if name in available_timezones() else "UTC")


def moment(said: str, now_us: int, zone_name: str) -> int:
    """Microseconds since 1970 of what was said at `now_us` in that zone. Raises Unclear."""
    here = zone(zone_name)
    now = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone(here)
    text = " ".join(said.casefold().replace(",", " ").split()).strip(" .!")
    try:
        found = _written(said.strip(), now) or _after(text, now) or _named(text, now)
    except (OverflowError, ValueError) as error:
        raise Unclear(said) from error
    if found is None:
        raise Unclear(said)
    return round(found.timestamp() * 1e6)


def _written(text: str, now: datetime) -> datetime | None:
    """ISO 8601. Without a time it is the morning of that day, without an offset the person's own zone."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return _at(date.fromisoformat(text), _MORNING, now)
        if not re.match(r"\d{4}-\d{2}-\d{2}[T ]", text):
            return None
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


def _after(text: str, now: datetime) -> datetime | None:
    """ "in an hour and 20 minutes", "in 2 days at 9:00"."""
    text = text.removesuffix(" from now") if text.endswith(" from now") else text.removeprefix("in ")
    spans = list(_SPAN.finditer(text))
    if not spans or spans[0].start() != 0:
        return None
    total, end = timedelta(), 0
    for span in spans:
        if text[end : span.start()].strip() not in ("", "and"):
            return None
        total += _amount(span["number"]) * _UNITS[span["unit"]]
        end = span.end()
    rest = text[end:].strip()
    if not rest:
        return (
            (now.astimezone(UTC) + total).astimezone(now.tzinfo) if total < timedelta(days=1) else now + total
        )
    clock = _clock(rest) if total >= timedelta(days=1) else None
    return None if clock is None else _at((now + total).date(), clock, now)


def _named(text: str, now: datetime) -> datetime | None:
    """A day, a time, or both, in either order; a time alone is the next one."""
    day, rest = _day(text, now)
    clock = _clock(rest) if rest else None
    if rest and clock is None:
        return None
    if day is None:
        if clock is None:
            return None
        today = _at(now.date(), clock, now)
        return today if today > now else _at(now.date() + timedelta(days=1), clock, now)
    return _at(day, clock or _MORNING, now)


def _day(text: str, now: datetime) -> tuple[date | None, str]:
    today = now.date()
    if found := _DATE.search(text):
        return date.fromisoformat(found["date"]), _without(text, found)
    for words, days in (("day after tomorrow", 2), ("tomorrow", 1), ("today", 0), ("next week", 7)):
        if found := re.search(rf"(?:the )?\b{words}\b", text):
            return today + timedelta(days=days), _without(text, found)
    if found := re.search(rf"(?:on |this |next )?\b({'|'.join(_DAYS)})\b", text):
        ahead = (_DAYS.index(found[1]) - today.weekday()) % 7
        return today + timedelta(days=ahead or 7), _without(text, found)
    if re.search(r"\btonight\b|\bthis (morning|afternoon|evening)\b", text):
        return today, text.replace("this ", "")
    return None, text


def _clock(text: str) -> time | None:
    text = text.removeprefix("in the ").removeprefix("at ").strip()
    if text in _PARTS:
        return _PARTS[text]
    part = next(
        (name for name in _PARTS if re.search(rf"\b{name}\b", text) and name not in ("noon", "midday")), ""
    )
    if part:
        text = re.sub(rf"\s*\b(?:in the |at )?{part}\b\s*(?:at)?\s*", " ", text).strip()
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour = int(found["hour"]) if found["hour"].isdigit() else _WORDS[found["hour"]]
    minute = int(found["minute"] or 0)
    half = (found["half"] or "").replace(".", "")
    late = part in ("afternoon", "evening", "tonight", "night")
    bare = not half and found["minute"] is None and not found["hour"].startswith("0") and not part
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    elif (late and hour < 12) or (bare and 1 <= hour <= _AFTERNOON):
        hour += 12
    return time(hour, minute) if hour < 24 and minute < 60 else None


def _amount(word: str) -> float:
    if word.startswith("half"):
        return 0.5
    return float(_WORDS[word]) if word in _WORDS else float(word)


def _without(text: str, found: re.Match[str]) -> str:
    return f"{text[: found.start()]} {text[found.end() :]}".strip()


def _at(day: date, clock: time, now: datetime) -> datetime:
    return datetime.combine(day, clock, tzinfo=now.tzinfo)
