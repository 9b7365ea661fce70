"""Crontab expressions: which moments they name, in the local time of a zone.

    minute hour day-of-month month day-of-week        *  5  1-5  */15  10-50/20  1,15  mon-fri  jan
    @hourly @daily @weekly @monthly @yearly

As in every cron, where both days are restricted (neither begins with `*`), either will do. 7 is Sunday, too.

**When the clocks change.** In spring some local times do not exist: what was due then is due, once, at the
moment when the clock jumps. In autumn some exist twice: an expression for every hour (`*`) names both, since
it means a pace; any other names the first, since it means a time of day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streamkit.errors import UsageError

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
HORIZON_DAYS = 41 * 366  # 29 February is a Sunday in 2088, then in 2128
PART = re.compile(r"(?:(?P<star>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\w+))?")


@dataclass(frozen=True)
class Field:
    """One of the five places of an expression."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> frozenset[int]:
        """What `text` allows. Raises ValueError with what is wrong."""
        return frozenset(value for part in text.split(",") for value in self._part(part))

    def _part(self, text: str) -> range:
        match = PART.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is neither a number, a range nor a list")
        low = self.low if match["star"] else self._number(match["low"])
        high = self.high if match["star"] else self._number(match["high"] or match["low"])
        if low > high:
            raise ValueError(f"{text!r} runs backwards")
        if match["step"] is None:
            return range(low, high + 1)
        if not (match["star"] or match["high"]):
            raise ValueError(f"{text!r} has a step and no range: write {low}-{self.high}/{match['step']}")
        if not match["step"].isdecimal() or int(match["step"]) == 0:
            raise ValueError(f"the step of {text!r} is not a number above zero")
        return range(low, high + 1, int(match["step"]))

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.low
        if not text.isdecimal():
            raise ValueError(f"{text!r} is no {self.name}")
        if not self.low <= int(text) <= self.high:
            raise ValueError(f"{text} is not in {self.low} to {self.high}")
        return int(text)


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of week", 0, 7, DAYS),
)


class Crontab:
    """The moments that an expression names; a `timers.Schedule`."""

    wall = True

    def __init__(self, expression: str, timezone: str | tzinfo = UTC) -> None:
        if not isinstance(expression, str):
            raise UsageError(f"{expression!r} is no crontab", hint='for example @app.crontab("*/5 * * * *")')
        self.expression = expression
        self.zone = _zone(timezone)
        texts = MACROS.get(expression.strip().lower(), expression).lower().split()
        if len(texts) != len(FIELDS):
            known = f", or one of {' '.join(MACROS)}" if expression.strip().startswith("@") else ""
            raise UsageError(
                f"the crontab {expression!r} has {len(texts)} fields, not {len(FIELDS)}",
                hint=f"write: minute hour day-of-month month day-of-week{known}",
            )
        minutes, hours, self._days, self._months, weekdays = (
            self._values(field, text) for field, text in zip(FIELDS, texts, strict=True)
        )
        self._minutes, self._hours = sorted(minutes), sorted(hours)
        self._weekdays = {weekday % 7 for weekday in weekdays}
        self._either_day = not (texts[2].startswith("*") or texts[4].startswith("*"))
        if next(self._dates(date(2000, 1, 1)), None) is None:
            raise UsageError(f"the crontab {expression!r} never comes", hint="no such day is in those months")

    @property
    def text(self) -> str:
        return f"{self.expression} {self.zone}"

    def next_ms(self, after_ms: int) -> int:
        """The first moment after this one."""
        first = datetime.fromtimestamp(after_ms // 1000, self.zone).date()
        for day in self._dates(first):
            for hour in self._hours:
                if _moments(day, hour, 59, self.zone)[-1] <= after_ms:
                    continue
                found = [
                    at for minute in self._minutes for at in self._at(day, hour, minute) if at > after_ms
                ]
                if found:
                    return min(found)
        raise OverflowError(f"the crontab {self.text} does not come after {after_ms} ms")

    def _at(self, day: date, hour: int, minute: int) -> list[int]:
        moments = _moments(day, hour, minute, self.zone)
        return moments if len(self._hours) == 24 else moments[:1]

    def _dates(self, first: date) -> Iterator[date]:
        for days in range(HORIZON_DAYS):
            day = first + timedelta(days)
            if day.month in self._months and self._is_due(day):
                yield day

    def _is_due(self, day: date) -> bool:
        by_month, by_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return by_month or by_week if self._either_day else by_month and by_week

    def _values(self, field: Field, text: str) -> frozenset[int]:
        try:
            return field.values(text)
        except ValueError as error:
            raise UsageError(
                f"the {field.name} of the crontab {self.expression!r}: {error}",
                hint='for example "*/5 * * * *", "30 6 * * mon-fri", "0 0 1 jan,jul *"',
            ) from None


def _moments(day: date, hour: int, minute: int, zone: tzinfo) -> list[int]:
    """When it is so late there: one moment, two, or, where that is left out, when the clock jumps over it."""
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    first, second = round(local.timestamp()), round(local.replace(fold=1).timestamp())
    if first > second:  # PEP 495: in a gap, `fold` says which side's offset is used
        return [_jump(second, first, zone) * 1000]
    return [at * 1000 for at in sorted({first, second})]


def _jump(before: int, after: int, zone: tzinfo) -> int:
    """The second at which the zone's offset changes, between these two."""
    former = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == former:
            before = middle
        else:
            after = middle
    return after


def _zone(timezone: str | tzinfo) -> tzinfo:
    if isinstance(timezone, tzinfo):
        return timezone
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"no time zone {timezone!r} is known here",
            hint='for example "UTC", "Europe/Berlin"; where the system has no zones: pip install tzdata',
        ) from None
