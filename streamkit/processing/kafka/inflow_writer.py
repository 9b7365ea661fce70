"""What a source writes with: one transaction for each portion, its records and its position together.

The transactional id belongs to the source, so whoever begins fences whoever wrote before, and what that one
left open is aborted. Then the position is read, from a compacted topic of one partition in which each entry
is a record. Nothing is mended: after any failure the producer is given up, and `begin` says what had been
written.

A row that the cluster takes from nobody (too large for the topic) is told by its index, and may be left out.
Brokers refuse whole batches; so where one was refused, each row goes in a batch of its own from then on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamkit.errors import StreamkitError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.sinks import BadRow, Unavailable
from streamkit.processing.connectors.sources import Encoded, Inflow, Position
from streamkit.processing.kafka.changelog_reader import KafkaChangelogReader
from streamkit.processing.kafka.settings import KafkaSettings, transactional_settings
from streamkit.processing.kafka.sink import A_RECORDS_FAULT, HOPELESS
from streamkit.processing.record import RawRecord
from streamkit.processing.worker.source import Partition

REQUEST_S = 5.0
ANSWER_S = 15.0
RETRY_S = 0.02
CLOSE_S = 1.0
POLL_EVERY = 1000
FULL_POLL_S = 0.05
ANY_NAME = "surrogateescape"  # of files, which need not be text

Report = Callable[[KafkaError | None, Message], None]

log = logging.getLogger("worker.source")


class RowRefusedError(Exception):
    """The cluster takes no such row; None: one of those that were in a batch."""

    def __init__(self, index: int | None, cause: StreamkitError) -> None:
        self.index = index
        self.cause = cause


class KafkaInflowWriter:
    """The `InflowWriter` port."""

    def __init__(self, bootstrap: str, user: KafkaSettings, inflow: Inflow) -> None:
        self._conf = {
            **transactional_settings(bootstrap, user, f"{inflow.app_id}-{inflow.name}"),
            "linger.ms": 0,  # a portion is produced in one go, and its commit waits for it
            "on_delivery": self._reported,
        }
        self._reader = KafkaChangelogReader(bootstrap, user)
        self._inflow = inflow
        self._producer: Producer | None = None
        self._undelivered: tuple[KafkaError, int | None] | None = None  # and which row, where that is known
        self._alone = False  # a row to a batch
        self._reached: dict[str, Any] = {}

    async def begin(self) -> Position:
        await self.close()
        self._undelivered = None
        conf = {**self._conf, "batch.num.messages": 1} if self._alone else self._conf
        self._producer = Producer(conf, logger=log)
        await blocking(self._initialise, self._producer)
        self._reached = await self._position()
        return dict(self._reached)

    async def write(self, rows: Sequence[Encoded], changes: Position) -> None:
        try:
            await self._try(rows, changes)
        except RowRefusedError as refused:
            self._alone = self._alone or refused.index is None
            await self._begin_again()
            if refused.index is not None:
                raise BadRow(refused.index, refused.cause) from None
            await self.write(rows, changes)

    async def _try(self, rows: Sequence[Encoded], changes: Position) -> None:
        assert self._producer is not None
        await blocking(self._write, self._producer, rows, changes)
        reached = {**self._reached, **{name: _as_stored(state) for name, state in changes.items()}}
        self._reached = {name: state for name, state in reached.items() if state is not None}

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await blocking(_abort, producer)

    async def _begin_again(self) -> None:
        """Where nothing was written since: then what failed may be written after all."""
        before = self._reached
        if await self.begin() != before:
            raise Unavailable(f"the source {self._inflow.name} was in other hands meanwhile")

    async def _position(self) -> dict[str, Any]:
        place = (self._inflow.positions, 0)
        entries: dict[str, Any] = {}

        def apply(_: Partition, records: Sequence[RawRecord]) -> None:
            for record in records:
                name = (record.key() or b"").decode(errors=ANY_NAME)
                state = record.value()
                if state is None:
                    entries.pop(name, None)
                else:
                    entries[name] = msgspec.json.decode(state)

        await self._reader.read(await self._reader.spans({place: 0}), apply)
        return entries

    # -- in a thread: these block -------------------------------------------------------------------------

    def _initialise(self, producer: Producer) -> None:
        try:
            producer.init_transactions(REQUEST_S)
        except KafkaException as error:
            raise self._judged(error.args[0]) from None

    def _write(self, producer: Producer, rows: Sequence[Encoded], changes: Position) -> None:
        inflow = self._inflow
        index: int | None = None
        try:
            producer.begin_transaction()
            for index, (value, key, timestamp_ms, headers) in enumerate(rows):
                time_ms = 0 if timestamp_ms is None else timestamp_ms or 1  # librdkafka takes 0 for "now"
                report = partial(self._reported, index=index) if self._alone else None
                _produce(producer, inflow.topic.name, value, key, -1, time_ms, headers, report=report)
                if index % POLL_EVERY == 0:
                    producer.poll(0)
            index = None
            for name, state in changes.items():
                data = None if state is None else msgspec.json.encode(state)
                _produce(producer, inflow.positions, data, name.encode(errors=ANY_NAME), 0, 0, None)
            _commit(producer)
        except KafkaException as error:
            reason, index = self._undelivered or (error.args[0], index)
            if reason.code() in A_RECORDS_FAULT and (index is not None or (rows and not self._alone)):
                raise RowRefusedError(index, self._judged(reason)) from None
            raise self._judged(reason) from None

    def _judged(self, error: KafkaError) -> StreamkitError:
        what = f"the source {self._inflow.name} cannot write to {self._inflow.topic.name}: {error.str()}"
        if error.code() in HOPELESS:
            return StreamkitError(
                what, hint="nothing of this portion is written; the position stays before it"
            )
        return Unavailable(what)

    def _reported(self, error: KafkaError | None, _: Message, index: int | None = None) -> None:
        if error is not None and error.code() != KafkaError._PURGE_QUEUE and self._undelivered is None:
            self._undelivered = error, index


def _as_stored(state: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(state))


def _produce(producer: Producer, topic: str, *record: Any, report: Report | None = None) -> None:
    value, key, partition, time_ms, headers = record
    produce: Any = producer.produce
    while True:
        try:
            produce(topic, value, key, partition, report, None, time_ms, headers or None)
        except BufferError:
            producer.poll(FULL_POLL_S)
        else:
            return


def _commit(producer: Producer) -> None:
    """Repeated while that may help."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            return producer.commit_transaction(REQUEST_S)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if not reason.retriable() or reason.txn_requires_abort() or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def _abort(producer: Producer) -> None:
    """A courtesy to readers, who would wait for the transaction's timeout."""
    try:
        producer.purge()
        producer.abort_transaction(CLOSE_S)
    except KafkaException as error:
        log.debug("abort: %s", error.args[0].str())
