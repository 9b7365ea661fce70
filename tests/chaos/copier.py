"""A copier as a process, to be killed: `python -m tests.chaos.copier BOOTSTRAP SOURCE TARGET NUMBER BATCH`.

It reads its share of the source under read_committed, writes what it read to the same partition of the
target and commits its offsets with it, in one transaction for each batch. What it cannot go on with ends this
life of consumer and producer; the next one takes over the transactional id. Each commit is told on the
standard output as the number of records in it, each life that gave up as `gave up: REASON`.

librdkafka 2.16 can wait for ever in `send_offsets_to_transaction`: a TxnOffsetCommit that waits for a group
coordinator is forgotten when the metadata does not name that broker any more, and the time limit of the call
with it. So a process that says nothing for STUCK_S ends, and is started again.
"""

from __future__ import annotations

import faulthandler
import subprocess
import sys
import threading

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.support.broker_process import environment

TIMEOUT_S = 10
STUCK_S = 25
STUCK_CODE = 1
GAVE_UP = "gave up: "
CLIENT = {"reconnect.backoff.max.ms": 200, "log_level": 0, "metadata.recovery.strategy": "none"}


def live(bootstrap: str, source: str, target: str, number: str, batch_records: int) -> None:
    """One life; raises KafkaException."""
    consumer = Consumer(
        {
            **CLIENT,
            "bootstrap.servers": bootstrap,
            "group.id": f"copy-{target}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "session.timeout.ms": 6_000,
        }
    )
    try:
        producer = Producer(
            {
                **CLIENT,
                "bootstrap.servers": bootstrap,
                "transactional.id": f"copier-{target}-{number}",
                "transaction.timeout.ms": 10_000,
                "linger.ms": 2,
            }
        )
        producer.init_transactions(TIMEOUT_S)
        consumer.subscribe([source])
        while True:
            faulthandler.dump_traceback_later(STUCK_S, exit=True)
            copy_batch(consumer, producer, source, target, batch_records)
    finally:
        consumer.close()


def copy_batch(consumer: Consumer, producer: Producer, source: str, target: str, batch_records: int) -> None:
    batch = [m for m in consumer.consume(batch_records, timeout=0.2) if m.error() is None]
    if not batch:
        return
    producer.begin_transaction()
    positions: dict[int, int] = {}
    for message in batch:
        value, partition, offset = message.value(), message.partition(), message.offset()
        assert partition is not None and offset is not None
        producer.produce(target, value=value, partition=partition)
        positions[partition] = offset + 1
    places = [TopicPartition(source, p, o) for p, o in positions.items()]
    producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), TIMEOUT_S)
    producer.commit_transaction(TIMEOUT_S)
    print(len(batch), flush=True)


class Copier:
    """The process, started again by whoever killed it, and what it told."""

    def __init__(self, bootstrap: str, source: str, target: str, number: int, batch_records: int) -> None:
        self._words = (bootstrap, source, target, str(number), str(batch_records))
        self.committed = 0
        self.gave_up: list[str] = []
        self.stuck = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.copier", *self._words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(GAVE_UP):
                self.gave_up.append(line.removeprefix(GAVE_UP).strip())
            elif line.strip().isdigit():
                self.committed += int(line)
        if process.wait() == STUCK_CODE:
            self.stuck += 1
            self.start()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    bootstrap, source, target, number, batch_records = sys.argv[1:]
    while True:
        try:
            live(bootstrap, source, target, number, int(batch_records))
        except KafkaException as error:
            print(f"{GAVE_UP}{error}", flush=True)


if __name__ == "__main__":
    main()
