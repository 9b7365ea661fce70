"""DescribeLogDirs over a socket, in every version."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from tests.broker.server.wire import batch, connected, running, topic


@pytest.mark.parametrize("version", range(1, 6))
async def test_replicas_and_their_sizes(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, "a", partitions=2)
        await topic(broker, "b")
        records = batch(b"value")
        await wire.produce(records, topic="a", partition=1)
        (everything,) = (await wire.ask(DescribeLogDirsRequest(topics=None), version)).results
        assert (everything.error_code, everything.log_dir) == (0, str(tmp_path))
        if version >= 4:
            assert everything.total_bytes >= everything.usable_bytes > 0
        sizes = {
            (one.name, p.partition_index): (p.partition_size, p.offset_lag, p.is_future_key)
            for one in everything.topics
            for p in one.partitions
        }
        assert sizes == {
            ("a", 0): (0, 0, False),
            ("a", 1): (len(records), 0, False),
            ("b", 0): (0, 0, False),
        }
        some = [DescribableLogDirTopic(topic="a", partitions=[1, 7]), DescribableLogDirTopic(topic="c")]
        (named,) = (await wire.ask(DescribeLogDirsRequest(topics=some), version)).results
        assert [(one.name, [p.partition_index for p in one.partitions]) for one in named.topics] == [
            ("a", [1])
        ]
