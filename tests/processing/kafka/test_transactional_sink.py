"""Who was fenced again and again has a rival, unless time alone explains it; a call that hangs is no end, a
record that the cluster never takes is one.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from streamkit.errors import RefusedError, StreamkitError
from streamkit.processing.kafka import transactional_sink
from streamkit.processing.kafka.transactional_sink import RIVALS, KafkaTransactionalSink
from streamkit.processing.worker.source import Position
from streamkit.runtime.os.clock import SystemClock
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside


@pytest.fixture
def sink() -> KafkaTransactionalSink:
    return KafkaTransactionalSink("127.0.0.1:1", {}, SystemClock(), {}, "app-0")


def fenced(sink: KafkaTransactionalSink, after_s: float) -> None:
    sink.began_at_s = time.monotonic() - after_s
    sink._check_rivals()


def test_fenced_soon_and_often_is_a_rival(sink: KafkaTransactionalSink) -> None:
    for _ in range(RIVALS[0] - 1):
        fenced(sink, after_s=0.5)
    with pytest.raises(RefusedError, match="another worker has the transactional id app-0"):
        fenced(sink, after_s=0.5)


def test_a_cluster_that_times_transactions_out_is_none(sink: KafkaTransactionalSink) -> None:
    for _ in range(2 * RIVALS[0]):
        fenced(sink, after_s=sink.timeout_s)


class Hanging:
    """A producer whose calls do not return before `end`."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.committed = False

    def begin_transaction(self) -> None: ...

    def purge(self, **_: bool) -> None: ...

    def poll(self, timeout: float) -> int:
        return 0

    def __len__(self) -> int:
        return 0

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self.end.wait()

    def commit_transaction(self, _: float) -> None:
        self.committed = True

    def init_transactions(self, _: float) -> None: ...


async def test_a_commit_that_librdkafka_lost_is_settled_by_another_producer(
    sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactional_sink, "HUNG_S", 0.01)
    first, second = Hanging(), Hanging()
    sink._producer = first  # type: ignore[assignment]
    monkeypatch.setattr(sink, "_make_producer", lambda: second)
    assert not await sink.commit([Position("in", 0, 5, "")], None)
    assert sink.doomed
    await sink.abort()
    first.end.set()  # it returns after all
    assert not sink.doomed
    assert sink._producer is second
    second.end.set()
    monkeypatch.setattr(transactional_sink, "HUNG_S", 60)
    assert await sink.commit([Position("in", 0, 5, "")], None)
    assert (first.committed, second.committed) == (False, True)


@pytest.mark.parametrize("size", [10_000, 2_000_000])  # the topic's limit, the client's
async def test_a_record_that_is_too_large_ends_the_worker_instead_of_being_tried_for_ever(
    broker: BrokerProcess, name: str, size: int
) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(name, 1, **{"max.message.bytes": "1000"})
    sink = KafkaTransactionalSink(broker.bootstrap, {}, SystemClock(), {}, f"{name}-0")
    await sink.start()
    sink.send(name, [(b"fits", b"k", 1, None, 0)])
    sink.send(name, [(b"x" * size, b"k", 1, None, 0)])
    sink.hold()
    await sink.flush()
    assert sink.doomed
    with pytest.raises(StreamkitError, match=f"a record for {name}.* was not delivered: .*too large"):
        await sink.abort()
    assert not sink.doomed
    await sink.close()
