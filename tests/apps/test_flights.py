"""The demo's job in memory: the first days of January, against the batch answer."""

from __future__ import annotations

from itertools import islice

import msgspec

from apps.flights import app
from streamkit.demo import batch, feed, verify

FLIGHTS = 1_200


def test_the_first_days_of_january_equal_the_batch_answer() -> None:
    rows = list(islice(feed.rows(), FLIGHTS))
    expected = batch.answer(rows)
    assert expected.late.total() > 0
    assert expected.cancelled.total() > 0
    with app.test() as driver:
        for row in rows:
            place = feed.AIRPORTS.index(row["origin"])
            driver.send("demo.flights", feed.value_of(row), key=row["origin"].encode(), partition=place)
        results = [driver.read(topic) for topic in ("demo.delays", "demo.late", "demo.cancelled")]
        letters = driver.records("demo.cancelled")
    found = verify.collect(*([msgspec.json.encode(value) for value in values] for values in results))
    assert verify.differences(expected, found) == []
    story = dict(letters[0].headers)
    assert story["streamkit.dlq.error"] == b"CancelledFlightError"
    assert story["streamkit.dlq.topic"] == b"demo.flights"
