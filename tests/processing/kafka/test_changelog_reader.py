"""The reader of changelogs, on a real broker."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from streamkit.processing.kafka.changelog_reader import KafkaChangelogReader
from streamkit.processing.record import RawRecord
from streamkit.processing.worker.source import Partition
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside


async def test_a_small_changelog_is_read_in_a_moment(broker: BrokerProcess, name: str) -> None:
    """librdkafka looks for the beginning of a partition after half a second if it knows no leader."""
    outside = Outside(broker.bootstrap)
    outside.create(name, 2)
    outside.send(name, range(10), key=str)
    reader = KafkaChangelogReader(broker.bootstrap, {})
    spans = await reader.spans({(name, 0): 0, (name, 1): 0})
    found: list[bytes | None] = []

    def apply(place: Partition, records: Sequence[RawRecord]) -> None:
        found.extend(record.key() for record in records)

    took_s = []
    for _ in range(5):
        found.clear()
        began = perf_counter()
        await reader.read(spans, apply)
        took_s.append(perf_counter() - began)
        assert sorted(found) == sorted(str(n).encode() for n in range(10))
    assert min(took_s) < 0.25
