"""A cluster as commands use it: reached or reported, with librdkafka's errors in our own words.

librdkafka retries an unreachable broker in silence until a deadline, so the addresses are tried first: a
refused connection is an answer at once.
"""

from __future__ import annotations

import difflib
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamkit.client.node import parse_addresses
from streamkit.errors import (
    BrokerUnreachableError,
    DeadlineError,
    NotFoundError,
    RefusedError,
    StreamkitError,
    UsageError,
    no_broker,
)

if TYPE_CHECKING:
    from confluent_kafka.admin import TopicMetadata

REACH_S = 3.0
REQUEST_S = 15.0
LOOK_S = 3.0
RETRY_S = 0.2
LEADER_ON_ITS_WAY = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._TIMED_OUT,
}

T = TypeVar("T")

_ERRORS: dict[int, type[StreamkitError]] = {
    KafkaError._TRANSPORT: BrokerUnreachableError,
    KafkaError._ALL_BROKERS_DOWN: BrokerUnreachableError,
    KafkaError._RESOLVE: BrokerUnreachableError,
    KafkaError._TIMED_OUT: DeadlineError,
    KafkaError._MSG_TIMED_OUT: DeadlineError,
    KafkaError.REQUEST_TIMED_OUT: DeadlineError,
    KafkaError.UNKNOWN_TOPIC_OR_PART: NotFoundError,
    KafkaError._UNKNOWN_TOPIC: NotFoundError,
    KafkaError._UNKNOWN_PARTITION: NotFoundError,
    KafkaError.GROUP_ID_NOT_FOUND: NotFoundError,
    KafkaError.TOPIC_ALREADY_EXISTS: RefusedError,
    KafkaError.TOPIC_EXCEPTION: UsageError,
    KafkaError.INVALID_CONFIG: UsageError,
    KafkaError.INVALID_PARTITIONS: UsageError,
    KafkaError.INVALID_REPLICATION_FACTOR: UsageError,
    KafkaError.INVALID_REQUEST: UsageError,
    KafkaError._INVALID_ARG: UsageError,
    KafkaError.POLICY_VIOLATION: RefusedError,
    KafkaError.NON_EMPTY_GROUP: RefusedError,
    KafkaError.MSG_SIZE_TOO_LARGE: RefusedError,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: RefusedError,
    KafkaError.GROUP_AUTHORIZATION_FAILED: RefusedError,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: RefusedError,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: RefusedError,
}


class Cluster:
    """The clients of one command. Making one proves that something listens at the address."""

    def __init__(self, bootstrap: str, settings: Mapping[str, Any] | None = None) -> None:
        """`settings`: of librdkafka, how the cluster is reached."""
        self.bootstrap = bootstrap
        _reach(bootstrap)
        # Commands report errors themselves, once; librdkafka would log each attempt.
        self._settings: dict[str, Any] = {
            **(settings or {}),
            "bootstrap.servers": bootstrap,
            "client.id": "streamkit-cli",
            "log_level": 0,
        }
        self.admin = AdminClient(self._settings)

    @property
    def is_plain(self) -> bool:
        """Is it reached without TLS and SASL? Our own client knows neither."""
        return str(self._settings.get("security.protocol", "plaintext")).lower() == "plaintext"

    def producer(self, **settings: Any) -> Producer:
        return Producer({**self._settings, **{name.replace("_", "."): v for name, v in settings.items()}})

    def consumer(self, **settings: Any) -> Consumer:
        """A consumer for chosen partitions: it joins no group and commits nothing."""
        fixed = {"group.id": "streamkit-cli", "enable.auto.commit": False, "enable.partition.eof": True}
        return Consumer(
            {**self._settings, **fixed, **{name.replace("_", "."): v for name, v in settings.items()}}
        )

    def topics(self) -> dict[str, TopicMetadata]:
        """Every topic with its metadata."""
        with in_our_words(self.bootstrap):
            found: dict[str, TopicMetadata] = self.admin.list_topics(timeout=REQUEST_S).topics
        return found

    def topic(self, name: str, *, instead: str = "") -> TopicMetadata:
        """One topic's metadata, or NotFoundError. Asking does not create it.

        `instead`: the command for whoever does not want to create it.
        """
        topics = self.topics()
        found = topics.get(name)
        if found is None or found.error is not None:
            meant = difflib.get_close_matches(name, topics, n=1, cutoff=0.8)
            raise NotFoundError(
                f"there is no topic {name!r} at {self.bootstrap}",
                hint=f"did you mean {meant[0]}?" if meant else instead or f"streamkit topic create {name}",
            )
        return found

    def offsets(self, places: Iterable[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        """An offset of each partition: earliest, latest, or at a timestamp (-1: nothing so late).

        Leaders that are on their way are waited for.
        """
        missing, found = list(places), dict[tuple[str, int], int]()
        deadline = time.monotonic() + REQUEST_S
        while missing:
            found |= self._offsets(missing, spec, patient=time.monotonic() < deadline)
            if missing := [place for place in missing if place not in found]:
                self.topics()  # an admin client asks whom it knows until it looks at metadata
                time.sleep(RETRY_S)
        return found

    def _offsets(
        self, places: Iterable[tuple[str, int]], spec: OffsetSpec, *, patient: bool
    ) -> dict[tuple[str, int], int]:
        """Of the partitions whose leaders answer. Raises for the others, unless `patient`."""
        answers = self.admin.list_offsets(
            {TopicPartition(*place): spec for place in places}, request_timeout=LOOK_S
        )
        found = {}
        with in_our_words(self.bootstrap):
            for place, future in answers.items():
                try:
                    offset = future.result(REQUEST_S).offset
                except KafkaException as error:
                    if not patient or error.args[0].code() not in LEADER_ON_ITS_WAY:
                        raise
                else:
                    if offset != OFFSET_INVALID:
                        found[place.topic, place.partition] = offset
                    elif not patient:
                        raise TimeoutError  # nobody answered
        return found

    def answer(self, future: Future[T]) -> T:
        with in_our_words(self.bootstrap):
            return future.result(REQUEST_S)

    def only_answer(self, futures: Mapping[Any, Future[T]]) -> T:
        (future,) = futures.values()
        return self.answer(future)


@contextmanager
def in_our_words(bootstrap: str) -> Iterator[None]:
    """Raise a client's or broker's error as one of ours."""
    try:
        yield
    except KafkaException as error:
        raise explained(error.args[0], bootstrap) from error
    except TimeoutError as error:
        raise DeadlineError(f"{bootstrap} did not answer within {REQUEST_S:g} s") from error


def explained(error: KafkaError, bootstrap: str) -> StreamkitError:
    kind = _ERRORS.get(error.code(), StreamkitError)
    if kind is BrokerUnreachableError:
        return no_broker(bootstrap)
    return kind(error.str() or error.name())


def _reach(bootstrap: str) -> None:
    """Connect to any of the addresses, and hang up."""
    for address in parse_addresses(bootstrap):
        try:
            socket.create_connection(address, REACH_S).close()
        except OSError:
            continue
        return
    raise no_broker(bootstrap)
