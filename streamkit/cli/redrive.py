"""Reading the letters of a dead-letter topic, and writing them back to where they came from.

    drive = Redrive(cluster, "dead", Choice(error="ValueError"))
    drive.letters()       the chosen ones that have not gone home, each with its record
    drive.count(homes)    how many would go where; finds out whether there is room to note which
    drive.send()          write a thousand of them and a note of it, in one transaction; again and again

The end is where the topic ended at the start, so that what fails again meanwhile is not driven in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamkit.cli.admin import REQUEST_S, Cluster, explained, in_our_words
from streamkit.cli.consume import Reader
from streamkit.cli.offsets import END, START, OffsetRange
from streamkit.cli.redriven import Notes
from streamkit.errors import DeadlineError, RefusedError, StreamkitError
from streamkit.processing.dead_letters import Letter, Redriven, letter_of, redriven_topic

COMMIT_EVERY = 1_000
COMMIT_S = 5.0  # so long a transaction may stay open where few letters are chosen
FLUSH_S = 30.0
ABORT_S = 10.0
FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


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
        self._notes = Notes(
            cluster, topic, sorted(cluster.topic(topic, instead="streamkit dlq list").partitions)
        )
        self._failure: StreamkitError | None = None

    def letters(self) -> Iterator[tuple[Message, Letter]]:
        """The chosen ones that have not gone home, with a home or without."""
        for record, letter in self._read(self._progress()):
            if self._choice.holds(letter):
                yield record, letter

    def count(self, homes: Counter[str]) -> None:
        """How many would go where. Raises RefusedError where a note could not tell which they were."""
        progress = self._progress()
        for record, letter in self._read(progress):
            if self._goes(record, letter, progress):
                homes[str(letter.topic)] += 1
        self._noted(progress)

    def send(self) -> None:
        """Write the chosen letters back, each once. What a run that ends early has not noted was not sent."""
        self.left = self.homeless = 0
        self._notes.make()
        with self._transactions() as producer:
            progress, sent, began_s = self._progress(), 0, 0.0
            for record, letter in self._read(progress):
                if self._goes(record, letter, progress):
                    if not sent:
                        producer.begin_transaction()
                        began_s = monotonic()
                    self._produce(producer, record, letter)
                    sent += 1
                if sent and (sent == COMMIT_EVERY or monotonic() - began_s > COMMIT_S):
                    self._commit(producer, progress)
                    sent = 0
            if sent:
                self._commit(producer, progress)

    # -- reading --------------------------------------------------------------------------------------

    def _progress(self) -> dict[int, Redriven]:
        """What has gone home, and how far this run has come."""
        progress = self._notes.read()
        self._reached = {number: its.offset for number, its in progress.items()}
        return progress

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

    @contextmanager
    def _transactions(self) -> Iterator[Producer]:
        """A producer whose transactions fence those of former runs; what is open at a failure is aborted."""
        producer = self._cluster.producer(
            transactional_id=redriven_topic(self._topic),
            transaction_timeout_ms=int(FLUSH_S * 1000),
            linger_ms=5,
            partitioner="murmur2_random",
        )
        try:
            with in_our_words(self._cluster.bootstrap):
                producer.init_transactions(REQUEST_S)
                yield producer
        except BaseException as error:
            with suppress(KafkaException):
                producer.abort_transaction(ABORT_S)
            if isinstance(cause := error.__cause__, KafkaException) and cause.args[0].code() in FENCED:
                raise RefusedError(
                    f"another redrive of {self._topic} began, and goes on alone",
                    hint=f"streamkit dlq list {self._topic}",
                ) from error
            raise

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

    def _commit(self, producer: Producer, progress: dict[int, Redriven]) -> None:
        """Everything sent is acknowledged, and becomes visible together with the note of it."""
        for partition, (offset, done) in self._noted(progress).items():
            self._notes.write(producer, partition, offset, done)
        if producer.flush(FLUSH_S):
            raise DeadlineError(f"not acknowledged within {FLUSH_S:g} s", hint="streamkit cluster health")
        if self._failure is not None:
            raise self._failure
        producer.commit_transaction(FLUSH_S)

    def _noted(self, progress: dict[int, Redriven]) -> dict[int, tuple[int, str]]:
        return {number: its.note(self._reached[number]) for number, its in progress.items()}
