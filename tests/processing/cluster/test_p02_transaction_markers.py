"""P2: offsets that transactions leave without a record hold no commit back; the lag is 0."""

from __future__ import annotations

from confluent_kafka import Producer

import streamkit as sk
from tests.processing.cluster.members import running, until, until_outside
from tests.support.worker_process import Outside


async def test_the_committed_offset_passes_markers_and_aborted_records(outside: Outside, name: str) -> None:
    topic = f"{name}-in"
    outside.create(topic)
    transactions = Producer(
        {"bootstrap.servers": outside.bootstrap, "transactional.id": name, "log_level": 0}
    )
    transactions.init_transactions(10)

    def transact(*values: int, commit: bool) -> None:
        transactions.begin_transaction()
        for value in values:
            transactions.produce(topic, str(value))
        transactions.flush()  # an abort drops what has not left yet
        (transactions.commit_transaction if commit else transactions.abort_transaction)()

    app = sk.App(name, commit_interval="100ms")
    app.stream(app.topic(topic, value=int)).map(lambda n: n * 10).to(f"{name}-out")
    transact(1, 2, commit=True)
    transact(3, commit=False)
    async with running(app, outside.bootstrap) as worker:
        await until_outside(
            lambda: outside.committed(name, topic) == [5], "the end, two markers behind the records"
        )
        transact(4, commit=False)
        await until_outside(
            lambda: outside.committed(name, topic) == [7], "an end that moved without a record"
        )
        transact(5, commit=True)
        await until_outside(lambda: outside.committed(name, topic) == outside.ends(topic) == [9])
        worker.member.metrics.collect()
        lags = worker.member.metrics.registry.families["streamkit_source_lag_records"].children.values()
        await until(lambda: [lag.value for lag in lags] == [0.0])
    assert [value for _, value, _ in outside.read(f"{name}-out")] == [10, 20, 50]
