"""The producer side of a worker under exactly-once: one transactional producer, one transaction at a time.

    send … send ─► hold ─► flush ─► ends ─► commit ─┬─► send …
                                        abort ◄─────┘ doomed

A doomed transaction is never mended. librdkafka says whether the producer survives it: an abortable error
needs an abort, a fatal one (fenced: the cluster timed the transaction out, or another process has our slot) a
new producer of the same id, which fences whatever the old one left. So does a call that never returns, which
is left behind. Whether a commit that got no answer took place is then told by the offsets of the group, which
are part of the transaction.

What the cluster takes in no transaction (a record that is too large) is raised by the abort: the same records
would make it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamkit.errors import RefusedError, StreamkitError
from streamkit.processing.kafka.blocking import in_thread, in_thread_for
from streamkit.processing.kafka.settings import KafkaSettings, shared_settings, transactional_settings
from streamkit.processing.kafka.sink import (
    HOPELESS,
    PATIENT_POLLS,
    POLL_S,
    SLOW_POLL_S,
    KafkaSink,
    undelivered,
)
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.source import Position
from streamkit.runtime.contracts.clock import Clock

REQUEST_S = 5.0
ENDS_S = 2.0
ANSWER_S = 20.0  # a commit or abort that has no answer for so long is settled by a new producer
CLOSE_S = 2.0
HUNG_S = ANSWER_S + 2 * REQUEST_S  # then a call does not return: librdkafka has lost it
RETRY_S = 0.25
RIVALS = (4, 60.0)  # fenced so often within so many seconds: another process lives in our slot
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}
# As elsewhere a topic that is gone ends the worker, whose start looks which there are.
ENDS = {*HOPELESS, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}

log = logging.getLogger("worker.sink")


class KafkaTransactionalSink(KafkaSink):
    """The `TransactionalSink` port."""

    def __init__(
        self,
        bootstrap: str,
        user: KafkaSettings,
        clock: Clock,
        retention_ms: Mapping[str, int],
        transactional_id: str,
    ) -> None:
        self._conf = transactional_settings(bootstrap, user, transactional_id)
        super().__init__(self._conf, clock, retention_ms)
        self._admin = AdminClient(shared_settings(bootstrap, user), logger=log)
        self._id = transactional_id
        self._fatal = False
        self._hopeless: StreamkitError | None = None
        self._closing = False
        self._fenced: deque[float] = deque(maxlen=RIVALS[0])
        self.timeout_s = int(self._conf["transaction.timeout.ms"]) / 1000
        self.began_at_s: float | None = None

    async def start(self) -> None:
        await in_thread(self._initialise)

    # -- what the loop does -----------------------------------------------------------------------------

    @property
    def doomed(self) -> bool:
        return self._failure is not None

    def doom(self, reason: str) -> None:
        if self._failure is None:
            log.warning("transaction given up: %s", reason)
            self._failure = StreamkitError(reason)

    @property
    def full(self) -> bool:
        return self.doomed or super().full

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        if not self.doomed:
            super().send(topic, records)

    def stopping(self) -> None:
        self._closing = True

    def hold(self) -> None:
        self._flushing = True

    async def flush(self) -> None:
        """Everything sent before `hold` is acknowledged, or the transaction is doomed."""
        polls = 0
        while not self.doomed and (self._waiting or len(self._producer)):
            self.serve()
            await asyncio.sleep(POLL_S if (polls := polls + 1) < PATIENT_POLLS else SLOW_POLL_S)

    async def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        return await in_thread(self._ends, places) if places else {}

    async def commit(self, positions: Sequence[Position], group: Any) -> bool:
        if self.doomed:
            return False
        producer = self._producer  # not the next one, however long it takes
        offsets = [TopicPartition(p.topic, p.partition, p.offset or 0, p.metadata) for p in positions]
        try:
            if self.began_at_s is None:
                producer.begin_transaction()
                self.began_at_s = time.monotonic()
            if offsets:
                await _answered(lambda: producer.send_offsets_to_transaction(offsets, group, REQUEST_S))
            await _answered(lambda: producer.commit_transaction(REQUEST_S))
        except KafkaException as error:
            self._failed(error.args[0])
            return False
        self.began_at_s = None
        self._release()
        return True

    async def abort(self) -> None:
        self._waiting.clear()
        self._held.clear()
        self._failure = self._failure or StreamkitError("aborted")  # nothing is taken meanwhile
        if (self.began_at_s is not None or self._fatal) and not await self._aborted():
            await in_thread(self._begin_anew)
        self.began_at_s, self._failure, self._fatal, self._flushing = None, None, False, False
        hopeless, self._hopeless = self._hopeless, None
        if hopeless is not None:
            raise hopeless

    def discard(self) -> None:
        if self.began_at_s is not None:
            self.doom("its records are of tasks that others own")

    async def close(self) -> None:
        self._closing = True
        if self.began_at_s is not None and not self._fatal:
            await self._abort_at_last()
        self._waiting.clear()
        self._producer.purge()

    async def _aborted(self) -> bool:
        """Whether the transaction is, and the producer good for another."""
        if self._fatal:
            return False
        producer = self._producer
        try:
            await _answered(lambda: producer.abort_transaction(REQUEST_S))
        except KafkaException as error:
            log.warning("abort: %s", error.args[0].str())
            return False
        return True

    async def _abort_at_last(self) -> None:
        """A courtesy to readers, who would wait for the transaction's timeout."""
        try:
            await in_thread_for(2 * CLOSE_S, self._producer.abort_transaction, CLOSE_S)
        except (KafkaException, TimeoutError) as error:
            log.warning("abort: %s", error)

    def _release(self) -> None:
        self._flushing = False
        self._waiting.extend(self._held)
        self._held.clear()
        self._produce_waiting()

    def _produce_waiting(self) -> None:
        if self.doomed:
            self._waiting.clear()
        elif self._waiting and self.began_at_s is None:
            self._begin()
        super()._produce_waiting()

    def _poll(self) -> None:
        try:
            super()._poll()
        except KafkaException as error:  # what is fatal
            self._failed(error.args[0])

    def _begin(self) -> None:
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            self._failed(error.args[0])
        self.began_at_s = time.monotonic()

    def _raise_failure(self) -> None:
        """Nothing: the transaction is doomed, and whoever looks sees it."""

    def _undelivered(self, place: str, error: KafkaError) -> None:
        failure = undelivered(place, error)
        if error.code() in ENDS and self._hopeless is None:
            self._hopeless = failure
        self.doom(failure.message)

    def _failed(self, error: KafkaError) -> None:
        self._fatal = self._fatal or error.fatal() or error.code() in FENCED
        self.doom(error.str())

    # -- in a thread: these block -------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        """As another producer, where an abort gets no answer or the producer is dead."""
        self._producer.purge(blocking=False)
        self._check_rivals()
        self._producer = self._make_producer()
        self._initialise()

    def _initialise(self) -> None:
        """Fence predecessors of this slot. Waits for brokers that do not answer."""
        while not self._closing:
            try:
                self._producer.init_transactions(REQUEST_S)
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                if reason.fatal() or not (reason.retriable() or reason.code() in UNANSWERED):
                    raise StreamkitError(
                        f"no transactions for {self._id}: {reason.str()}", hint="see the broker's log"
                    ) from None
                log.warning("transactions of %s are not ready yet: %s", self._id, reason.str())
                time.sleep(RETRY_S)
            else:
                return

    def _check_rivals(self) -> None:
        now, (count, window_s) = time.monotonic(), RIVALS
        if self.began_at_s is not None and now - self.began_at_s >= self.timeout_s:
            return  # timed out by the cluster
        self._fenced.append(now)
        if len(self._fenced) == count and now - self._fenced[0] < window_s:
            self.began_at_s = None
            raise RefusedError(
                f"another worker has the transactional id {self._id}: both were fenced {count} times",
                hint="give the workers of each machine their own numbers: streamkit worker --slot N",
            )

    def _ends(self, places: Sequence[Place]) -> dict[Place, int]:
        wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        answers = self._admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ENDS_S
        )
        found = {}
        for place, answer in answers.items():
            try:
                offset = int(answer.result().offset)
            except KafkaException as error:
                log.warning("the end of %s-%d is not known yet: %s", *_named(place), error.args[0].str())
            else:
                if offset >= 0:  # else nobody answered
                    found[place.topic, place.partition] = offset
        if len(found) < len(wanted):
            self._find_leaders()
        return found

    def _find_leaders(self) -> None:
        """An admin client asks whom it knows, whatever the answers are, until it looks at metadata."""
        try:
            self._admin.list_topics(timeout=ENDS_S)
        except KafkaException as error:
            log.warning("leaders are not known yet: %s", error.args[0].str())


UNANSWERED = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._STATE}


def _named(place: TopicPartition) -> tuple[str, int]:
    return place.topic, place.partition


async def _answered(call: Callable[[], object]) -> None:
    """`call` in a thread; raises KafkaException, a fatal one if it never returned."""
    try:
        await in_thread_for(HUNG_S, _until_answered, call)
    except TimeoutError:
        raise KafkaException(
            KafkaError(KafkaError._TIMED_OUT, f"librdkafka has not returned for {HUNG_S:.0f} s", fatal=True)
        ) from None


def _until_answered(call: Callable[[], object]) -> None:
    """Repeat what may be repeated until it has an answer, for `ANSWER_S`."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            call()
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if not reason.retriable() or reason.txn_requires_abort() or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S / 10)
        else:
            return
