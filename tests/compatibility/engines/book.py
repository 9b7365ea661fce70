"""The judge of all engines: the lines whose words one was given to count, and the counts that it wrote."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 3
COUNTED_S = 240


class Book:
    """`topics`: where the lines are and where the counts go, keyed by word, each as a decimal number."""

    def __init__(self, bootstrap: str, name: str, replicas: int = 1) -> None:
        self.topics = (f"{name}-lines", f"{name}-counts")
        self.found: defaultdict[str, list[int]] = defaultdict(list)
        self._bootstrap = bootstrap
        self._expected: Counter[str] = Counter()
        admin = AdminClient({"bootstrap.servers": bootstrap})
        new = [NewTopic(topic, PARTITIONS, replicas) for topic in self.topics]
        for made in admin.create_topics(new).values():
            made.result(20)
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{name}-judge",
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            }
        )
        self._reader.subscribe([self.topics[1]])

    def write(self, lines: int) -> None:
        for words in self._produce(self._producer, lines):
            self._expected.update(words)
        assert self._producer.flush(60) == 0

    def discard(self, lines: int) -> None:
        """Lines of a transaction that is aborted: whoever reads what is committed does not count them."""
        settings = {"bootstrap.servers": self._bootstrap, "transactional.id": f"{self.topics[0]}-discarded"}
        producer = Producer(settings)
        producer.init_transactions(30)
        producer.begin_transaction()
        self._produce(producer, lines)
        assert producer.flush(60) == 0
        producer.abort_transaction(30)

    def _produce(self, producer: Producer, lines: int) -> list[list[str]]:
        written = [["the", f"word{number % 7}", f"word{number % 3}"] for number in range(lines)]
        for number, words in enumerate(written):
            producer.produce(self.topics[0], value=" ".join(words), partition=number % PARTITIONS)
        return written

    def say(self, line: str) -> None:
        self._producer.produce(self.topics[0], value=line)
        assert self._producer.flush(30) == 0

    def read(self, counts: int | None = None) -> None:
        """Until this many counts are there, or one for each word that was written."""
        wanted = self._expected.total() if counts is None else counts
        self._read_until(lambda: sum(map(len, self.found.values())) >= wanted)

    def read_on(self) -> None:
        """Until there is a count that was not there."""
        self.read(sum(map(len, self.found.values())) + 1)

    def read_newest(self) -> None:
        """Until the newest count of each word is how often it was written."""
        self._read_until(lambda: {word: counts[-1] for word, counts in self.found.items()} == self._expected)

    def _read_until(self, is_read: Callable[[], bool]) -> None:
        deadline = time.monotonic() + COUNTED_S
        while not is_read():
            assert time.monotonic() < deadline, (self._expected, self.found)
            message = self._reader.poll(0.5)
            if message is not None and message.error() is None:
                self.found[message.key().decode()].append(int(message.value()))

    def is_complete(self) -> bool:
        """Every count of every word is there, once, and in order."""
        return self.found == {word: list(range(1, count + 1)) for word, count in self._expected.items()}

    def never_falls(self) -> bool:
        """No count of a word comes after a higher one."""
        return all(before <= after for counts in self.found.values() for before, after in pairwise(counts))

    def close(self) -> None:
        self._reader.close()
