"""What the scenario book asks of a client that others wrote: one contract, which every client implements.

Its words are what a user does, not what a client calls it. A client that cannot do something says so in
`lacks`, under one of `FEATURES`, with the reason: the table shows a dash there. Everything else must work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

DEADLINE_S = 30
SESSION_MS = 6_000
POLL_S = 0.2

FEATURES = {
    "snappy": "compress with snappy",
    "lz4": "compress with lz4",
    "zstd": "compress with zstd",
    "acks": "choose how many replicas acknowledge",
    "idempotence": "an idempotent producer",
    "places": "learn where a record was written",
    "partition": "choose the partition of each record",
    "timestamp": "choose the timestamp of each record",
    "broker's time": "see the timestamp that the broker gave",
    "nulls": "tell null from empty, in keys and values",
    "binary": "any bytes in keys and values",
    "headers": "headers, as many as there are, in order",
    "seek": "move a reader to an offset",
    "start": "begin at the end, or at a time",
    "pause": "pause and resume partitions",
    "commit": "commit offsets that the user names",
    "static": "members with names of their own (group.instance.id)",
    "cooperative": "rebalances that take away only what moves (KIP-429)",
    "consumer protocol": "groups of the new protocol (KIP-848)",
    "isolation": "choose between read_committed and read_uncommitted",
    "transactions": "commit transactions",
    "open transactions": "abort transactions, and hold them open with records in them, in several topics",
    "transaction offsets": "commit offsets within a transaction",
    "succession": "take over the transactional id of a producer that is gone",
    "transaction timeout": "choose how long a transaction may take",
    "failover": "go on when the broker that it talks to is gone",
    "create topic": "create a topic",
    "delete topic": "delete a topic",
    "add partitions": "add partitions to a topic",
    "topic settings": "read and change the settings of a topic",
    "list groups": "list the groups",
    "delete group": "delete a group",
    "delete records": "delete the records before an offset",
    "offsets": "ask where a topic begins and ends",
}


class Record(NamedTuple):
    """What is to be written; what is None is left to the client."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Row(NamedTuple):
    """A record as a consumer sees it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Refused(Exception):
    """The client says no; `code` is the broker's error code, or None if the client tells none."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(f"{text} (error code {code})")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class ProducerSettings:
    """`max_bytes`: of a batch. `patience_ms`: how long a record may wait for its topic to be known."""

    acks: str = "all"
    compression: str = "none"
    idempotent: bool = False
    transactional_id: str | None = None
    transaction_timeout_ms: int = 60_000
    max_bytes: int = 1_000_000
    patience_ms: int = DEADLINE_S * 1000


@dataclass(frozen=True, kw_only=True)
class ConsumerSettings:
    """`start`: "earliest", "latest" or a time in ms; in a group it counts where nothing is committed.

    `protocol`: "classic" or "consumer"; `assignor` of the classic one: "range" or "cooperative".
    `limit`: how many records the scenario asks for, at most.
    """

    group: str | None = None
    start: str | int = "earliest"
    isolation: str = "read_uncommitted"
    protocol: str = "classic"
    assignor: str = "range"
    instance: str | None = None
    limit: int | None = None


class Producer(Protocol):
    def send(self, topic: str, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Write few batches, wait until all is acknowledged; (partition, offset) of each, if it tells."""
        ...

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def send_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None: ...
    def close(self) -> None: ...


class Consumer(Protocol):
    """A reader of one topic: of all its partitions, or as the member of a group of what the group assigns."""

    def poll(self) -> list[Row]:
        """What has come; waits `POLL_S` for it at most."""
        ...

    def owned(self) -> frozenset[int]: ...
    def seek(self, partition: int, offset: int) -> None: ...
    def pause(self, partitions: Sequence[int]) -> None: ...
    def resume(self, partitions: Sequence[int]) -> None: ...
    def commit(self, offsets: Mapping[int, int]) -> None: ...
    def committed(self) -> dict[int, int]: ...
    def close(self) -> None: ...


class Client(Protocol):
    name: ClassVar[str]
    lacks: ClassVar[Mapping[str, str]]

    def __init__(self, bootstrap: str) -> None: ...
    def close(self) -> None: ...

    def producer(self, **settings: Any) -> Producer:
        """`ProducerSettings`; a producer with a transactional id has fenced its past when this returns."""
        ...

    def consumer(self, topic: str, **settings: Any) -> Consumer:
        """`ConsumerSettings`."""
        ...

    def create_topic(
        self, topic: str, partitions: int, replicas: int = 1, settings: Mapping[str, str] | None = None
    ) -> None: ...
    def delete_topic(self, topic: str) -> None: ...
    def topics(self) -> set[str]: ...
    def partitions_of(self, topic: str) -> int: ...
    def add_partitions(self, topic: str, total: int) -> None: ...
    def change_settings(self, topic: str, settings: Mapping[str, str]) -> None: ...
    def settings_of(self, topic: str) -> dict[str, str]: ...
    def groups(self) -> set[str]: ...
    def delete_group(self, group: str) -> None: ...
    def delete_records(self, topic: str, partition: int, before: int) -> None: ...
    def offsets_of(self, topic: str) -> dict[int, tuple[int, int]]:
        """By partition, where it begins and where it ends."""
        ...


def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


def read(consumer: Consumer, count: int, deadline_s: float = DEADLINE_S) -> list[Row]:
    """Poll until `count` records have come, in the order they came; more may come with the last of them."""
    rows: list[Row] = []
    end = time.monotonic() + deadline_s
    while len(rows) < count:
        rows += consumer.poll()
        assert time.monotonic() < end, f"only {len(rows)} of {count} records in {deadline_s} s"
    return rows
