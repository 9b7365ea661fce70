"""Who was fenced again and again has a rival, unless time alone explains it."""

from __future__ import annotations

import time

import pytest

from streamkit.errors import RefusedError
from streamkit.processing.kafka.transactional_sink import RIVALS, KafkaTransactionalSink
from streamkit.runtime.os.clock import SystemClock


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
