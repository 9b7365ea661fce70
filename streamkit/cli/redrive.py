"""Reading the letters of a dead-letter topic, and writing them back to where they came from.

    with Redrive(cluster, "dead", Choice(error="ValueError")) as drive:
        drive.letters()       the chosen ones that have not gone home, each with its record
        drive.count(homes)    how many would go where; finds out whether their commit has room
        drive.send()          write, await every acknowledgement, commit; again and again

The end is where the topic ended at the start, so that what fails again meanwhile is not driven in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

import msgspec
from confluent_kafka import KafkaError, Message, TopicPartition

from streamkit.cli.admin import REQUEST_S, Cluster, explained, in_our_words
from streamkit.cli.consume import Reader
from streamkit.cli.offsets import END, START, OffsetRange
from streamkit.errors import DeadlineError, StreamkitError
from streamkit.processing.dead_letters import Letter, Redriven, letter_of, redrive_group

COMMIT_EVERY = 1_000
FLUSH_S = 30.0


class Choice(msgspec.Struct, frozen=True):
    """Which letters; None: any."""

    error: str | None = None
    operator: str | None = None
    source: str | None = None

    def holds(self, letter: Letter) -> bool:
        wanted = (self.error, letter.error), (self.operator, letter.operator), (self.source, letter.topic)
        return all(want is None or want == have for want, have in wanted)


class Redrive:
    """See the module. `left`, `homeless`: letters that were not chosen; that have no home to go to."""

    def __init__(self, cluster: Cluster, topic: str, choice: Choice) -> None:
        self.left = 0
        self.homeless = 0
        self._cluster = cluster
        self._topic = topic
        self._choice = choice
        self._partitions = {name: set(found.partitions) for name, found in cluster.topics().items()}
        self._places = [TopicPartition(topic, number) for number in sorted(cluster.topic(topic).partitions)]
        self._consumer = cluster.consumer(group_id=redrive_group(topic))
        self._failure: StreamkitError | None = None

    def letters(self) -> Iterator[tuple[Message, Letter]]:
        """The chosen ones that have not gone home, with a home or without."""
        for record, letter in self._read(self._progress()):
            if self._choice.holds(letter):
                yield record, letter

    def count(self, homes: Counter[str]) -> None:
        """How many would go where. Raises RefusedError where a commit could not tell which they were."""
        progress = self._progress()
        for record, letter in self._read(progress):
            if self._goes(record, letter, progress):
                homes[str(letter.topic)] += 1
        self._offsets(progress)

    def send(self) -> None:
        """Write the chosen letters back. What was not acknowledged is not committed."""
        self.left = self.homeless = 0
        producer = self._cluster.producer(enable_idempotence=True, linger_ms=5, partitioner="murmur2_random")
        progress, sent = self._progress(), 0
        for record, letter in self._read(progress):
            if not self._goes(record, letter, progress):
                continue
            self._produce(producer, record, letter)
            sent += 1
            if sent % COMMIT_EVERY == 0:
                self._commit(producer, progress)
        self._commit(producer, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    # -- reading --------------------------------------------------------------------------------------

    def _progress(self) -> dict[int, Redriven]:
        """What has gone home, and how far this run has come."""
        self._reached: dict[int, int] = {}
        with in_our_words(self._cluster.bootstrap):
            committed = self._consumer.committed(self._places, timeout=REQUEST_S)
        for place in committed:
            self._reached[place.partition] = max(0, place.offset)
        return {p.partition: Redriven(max(0, p.offset), p.metadata or "") for p in committed}

    def _read(self, progress: dict[int, Redriven]) -> Iterator[tuple[Message, Letter]]:
        """Letters that have not gone home, partition by partition as they come."""
        with Reader(self._cluster, self._topic, (), OffsetRange(START, END)) as reader:
            for record in reader:
                partition, offset = record.partition(), record.offset()
                assert partition is not None and offset is not None
                if not progress[partition].done(offset):
                    letter = letter_of(record)  # type: ignore[arg-type]
                    if letter is None:  # not one of ours, and nothing to redrive
                        progress[partition].settle(offset)
                    else:
                        yield record, letter
                self._reached[partition] = max(self._reached[partition], offset + 1)

    def _goes(self, record: Message, letter: Letter, progress: dict[int, Redriven]) -> bool:
        """Is this one to go home? Notes what becomes of it."""
        its = progress[record.partition() or 0]
        chosen, home = self._choice.holds(letter), letter.topic in self._partitions
        if chosen and home:
            its.settle(record.offset() or 0)
            return True
        its.leave(record.offset() or 0)
        self.homeless += chosen
        self.left += not chosen
        return False

    # -- writing --------------------------------------------------------------------------------------

    def _produce(self, producer: Any, record: Message, letter: Letter) -> None:
        assert letter.topic is not None
        known = letter.partition in self._partitions[letter.topic]
        while True:
            try:
                producer.produce(
                    letter.topic,
                    record.value(),
                    record.key(),
                    letter.partition if known else -1,
                    self._reported,
                    None,
                    record.timestamp()[1] or 1,
                    letter.headers,
                )
            except BufferError:
                producer.poll(0.1)
            else:
                producer.poll(0)
                return

    def _reported(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = explained(error, self._cluster.bootstrap)

    def _commit(self, producer: Any, progress: dict[int, Redriven]) -> None:
        """Everything sent is acknowledged, then it is remembered."""
        if producer.flush(FLUSH_S):
            raise DeadlineError(f"not acknowledged within {FLUSH_S:g} s", hint="streamkit cluster health")
        if self._failure is not None:
            raise self._failure
        with in_our_words(self._cluster.bootstrap):
            self._consumer.commit(offsets=self._offsets(progress), asynchronous=False)

    def _offsets(self, progress: dict[int, Redriven]) -> list[TopicPartition]:
        found = []
        for partition, its in progress.items():
            offset, metadata = its.commit(self._reached[partition])
            found.append(TopicPartition(self._topic, partition, offset, metadata))
        return found
