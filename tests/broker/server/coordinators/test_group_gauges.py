"""What /metrics says of groups: members, state, and lag in records and in seconds."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streamkit.broker.server.node import Broker
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from streamkit.protocol.records.record import Record, encode_batch
from tests.broker.server.wire import connected, running, topic

HOUR_MS = 3_600_000


def scrape(broker: Broker) -> dict[tuple[str, ...], float]:
    for callback in broker.metrics.on_scrape:
        callback()
    return {
        (name.removeprefix("streamkit_"), *labels): child.value  # type: ignore[union-attr]
        for name, family in broker.metrics.families.items()
        if name.startswith("streamkit_group_") and family.kind == "gauge"
        for labels, child in family.children.items()
    }


async def test_lag_is_measured_in_records_and_by_the_next_records_age(tmp_path: Path) -> None:
    async with running(tmp_path / "data", offsets_topic_num_partitions="1") as broker:
        await topic(broker, "t")
        await broker.groups.find("g")
        now_ms = broker.clock.now_ms()
        ages = (3 * HOUR_MS, 2 * HOUR_MS, HOUR_MS)
        async with connected(broker) as wire:
            await wire.produce(encode_batch([Record(timestamp=now_ms - age, value=b"v") for age in ages]))
            for committed, lag, age_s in ((1, 2, 7200), (2, 1, 3600), (3, 0, 0)):
                part = OffsetCommitRequestPartition(committed_offset=committed)
                wanted = [OffsetCommitRequestTopic(name="t", partitions=[part])]
                await wire.ask(OffsetCommitRequest(group_id="g", topics=wanted), 8)
                assert scrape(broker)["group_lag_records", "g", "t"] == lag
                while age_s and not scrape(broker)["group_lag_seconds_max", "g", "t"]:
                    await asyncio.sleep(0)
                measured = scrape(broker)
                assert age_s <= measured["group_lag_seconds_max", "g", "t"] < age_s + 60
                assert measured["group_members", "g"] == 0
                assert measured["group_state", "g", "Empty"] == 1


async def test_a_group_that_is_gone_is_measured_no_more(tmp_path: Path) -> None:
    async with running(tmp_path / "data", offsets_topic_num_partitions="1") as broker:
        await topic(broker, "t")
        await broker.groups.find("g")
        async with connected(broker) as wire:
            part = OffsetCommitRequestPartition(committed_offset=0)
            wanted = [OffsetCommitRequestTopic(name="t", partitions=[part])]
            await wire.ask(OffsetCommitRequest(group_id="g", topics=wanted), 8)
            assert ("group_members", "g") in scrape(broker)
            await wire.ask(DeleteTopicsRequest(topic_names=["t"]), 4)
            while scrape(broker):
                await asyncio.sleep(0)
