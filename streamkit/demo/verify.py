"""Was the job right? What it wrote, put beside what the file says it had to write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from streamkit.demo.batch import Answer, FlightId


def collect(delays: Iterable[bytes], late: Iterable[bytes], cancelled: Iterable[bytes]) -> Answer:
    """The job's answer, from the values of its three topics. The last word on a window is its result."""
    found = Answer()
    for value in delays:
        hour = json.loads(value)
        found.windows[hour["key"], hour["start_ms"]] = (hour["flights"], hour["mean"], hour["worst"])
    found.late.update(map(_flight, late))
    found.cancelled.update(map(_flight, cancelled))
    return found


def _flight(value: bytes) -> FlightId:
    flight = json.loads(value)
    scheduled = datetime.fromisoformat(flight["scheduled"])
    return f"{scheduled:%Y-%m-%dT%H:%MZ}", flight["carrier"], flight["flight"], flight["dest"]


def differences(expected: Answer, found: Answer) -> list[str]:
    """Each thing that is missing, wrong or too much, in words."""
    return [
        *_differences("window", expected.windows, found.windows),
        *_differences("late flight", expected.late, found.late),
        *_differences("dead letter", expected.cancelled, found.cancelled),
    ]


def _differences(what: str, expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            yield f"{what} {key}: expected {expected.get(key)}, found {found.get(key)}"
