"""What of a dead-letter topic has gone home, kept in a topic beside it: `{topic}-redriven`.

The offsets of a group would be forgotten a week after the last run, since it has no members, and the next run
would send everything home once more. A compacted topic is kept: one record for each partition of the letters,
written in the transaction that sends them. So each letter goes home once, however a run ends, and of two runs
at a time the later one fences the other.

Each record names the id of the letters' topic: what is known of a topic that was deleted counts for nothing
when another one has its name.
"""

from __future__ import annotations

import msgspec
from confluent_kafka import KafkaError, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec

from streamkit.cli.admin import REQUEST_S, Cluster, explained, in_our_words
from streamkit.errors import RefusedError
from streamkit.processing.dead_letters import Redriven, redriven_topic

BATCH = 100
POLL_S = 0.1
CONFIG = {"cleanup.policy": "compact"}


class Note(msgspec.Struct, frozen=True):
    """Of one partition, as JSON; `offset`, `done`: see `Redriven`."""

    topic_id: str
    offset: int
    done: str = ""


class Notes:
    """The notes of one dead-letter topic."""

    def __init__(self, cluster: Cluster, topic: str, partitions: list[int]) -> None:
        self._cluster = cluster
        self._name = redriven_topic(topic)
        self._partitions = partitions
        with in_our_words(cluster.bootstrap):
            found = cluster.admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_S)
            self._topic_id = str(found[topic].result(REQUEST_S).topic_id)

    def read(self) -> dict[int, Redriven]:
        """What has gone home, by partition."""
        progress = {number: Redriven() for number in self._partitions}
        if self._name in self._cluster.topics():
            for number, note in self._stored().items():
                if note.topic_id == self._topic_id and number in progress:
                    progress[number] = Redriven(note.offset, note.done)
        return progress

    def make(self) -> None:
        """The topic, if it is missing."""
        if self._name in self._cluster.topics():
            return
        wanted = NewTopic(self._name, num_partitions=1, replication_factor=-1, config=CONFIG)
        self._cluster.only_answer(self._cluster.admin.create_topics([wanted], operation_timeout=REQUEST_S))

    def write(self, producer: Producer, partition: int, offset: int, done: str) -> None:
        """Into the producer's transaction."""
        note = msgspec.json.encode(Note(self._topic_id, offset, done))
        producer.produce(self._name, note, str(partition), partition=0)

    def _stored(self) -> dict[int, Note]:
        """The last note of each partition that is committed."""
        first = self._cluster.offsets([(self._name, 0)], OffsetSpec.earliest())
        consumer, notes = self._cluster.consumer(auto_offset_reset="error"), dict[int, Note]()
        try:
            consumer.assign([TopicPartition(self._name, 0, first[self._name, 0])])
            while True:
                with in_our_words(self._cluster.bootstrap):
                    messages = consumer.consume(BATCH, POLL_S)
                for message in messages:
                    error = message.error()
                    if error is None:
                        notes[int(message.key() or b"")] = self._decoded(message.value() or b"")
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return notes
                    else:
                        raise explained(error, self._cluster.bootstrap)
        finally:
            consumer.close()

    def _decoded(self, value: bytes) -> Note:
        try:
            return msgspec.json.decode(value, type=Note)
        except (msgspec.DecodeError, ValueError) as error:
            raise RefusedError(
                f"{self._name} holds something else than what was redriven: {error}",
                hint=f"streamkit topic consume {self._name}",
            ) from error
