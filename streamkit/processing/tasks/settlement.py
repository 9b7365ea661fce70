"""What a task does with a record that raised: the policy of its operator, carried out and counted.

A policy stands on an operator and holds for those behind it; without one the app's default does. Retries come
first; then the record is skipped, sent to a dead-letter topic, or the task has failed. A record that cannot
be decoded *yet* is nobody's error: its chain waits there, and looks again every `LOOK_AGAIN_MS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from streamkit.processing.error_policy import DeadLetter, ErrorPolicy, Fail, Skip, dead_letter_headers
from streamkit.processing.record import RawRecord
from streamkit.processing.replies import address, error_reply, without_request
from streamkit.processing.serde import UNDECLARED_KEY, NotYetError
from streamkit.processing.tasks.assembly import Assembly, Chain
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.topology import Node, lineage

Letter = tuple[bytes | None, bytes | None, int]  # value, key, event time
LOOK_AGAIN_MS = 20


def letter_of_computed(
    value: Any, key: Any, time_ms: int, encode: Callable[[Any], bytes | None] | None = None
) -> Letter:
    """Of what no topic holds, such as the result of a window. It need not be anything that can be written."""
    return _shown(value, encode or _as_json), _shown(key, UNDECLARED_KEY.encode), time_ms


def _as_json(value: Any) -> bytes:
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)


def _shown(value: Any, encode: Callable[[Any], bytes | None]) -> bytes | None:
    try:
        return encode(value)
    except Exception:
        return repr(value).encode(errors="backslashreplace")


class TaskFailure(msgspec.Struct, frozen=True):
    """The error policy says stop: `error` was raised by `operator`; at `offset` of `place`, if at a
    record.
    """

    operator: str
    error: Exception
    place: Place | None
    offset: int | None


class Settlement:
    """Errors of one task. `failure` is set once and for all."""

    def __init__(self, assembly: Assembly) -> None:
        self.failure: TaskFailure | None = None
        self.dead_letters: Counter[tuple[str, str]] = Counter()  # operator, class of the error
        self._assembly = assembly

    def policy(self, node: Node) -> ErrorPolicy:
        """The policy of the operator or the nearest before it, else the app's."""
        while node.policy is None and node.parents:
            node = node.parents[0]
        return node.policy or self._assembly.topology.default_policy

    def settle(self, chain: Chain, record: RawRecord, error: Exception, now_ms: int) -> bool:
        """Apply the policy to a record that raised. False: the chain stops here, for now or for good."""
        if isinstance(error, NotYetError):
            chain.retry_at_ms = now_ms + LOOK_AGAIN_MS
            return False
        operator = chain.compiled.operator_at(error.__traceback__) or chain.entry
        policy = self.policy(operator)
        if policy.retry is not None and chain.attempts < policy.retry.attempts:
            chain.attempts += 1
            self._assembly.counts(operator).retries += 1
            chain.retry_at_ms = now_ms + policy.retry.pause_ms(chain.attempts)
            return False
        letter = record.value(), record.key(), record.timestamp()[1]
        self.last_resort(operator, error, record, letter)
        return self.failure is None

    def pause_ms(self, operator: Node, attempt: int) -> int | None:
        """The pause before the next try after the `attempt`-th (from 1) failed; None: no more tries."""
        retry = self.policy(operator).retry
        if retry is None or attempt > retry.attempts:
            return None
        self._assembly.counts(operator).retries += 1
        return retry.pause_ms(attempt)

    def last_resort(
        self,
        operator: Node,
        error: Exception,
        record: RawRecord | None,
        letter: Letter,
        *,
        answers: bool = True,
    ) -> None:
        """What follows the last try. Who asked is told in any case, unless they have their answer."""
        counts = self._assembly.counts(operator)
        answered = answers and record is not None and self._answered(operator, error, record)
        match self.policy(operator).then:
            case DeadLetter(topic):
                counts.dead_letters += 1
                self.dead_letters[operator.name, type(error).__qualname__] += 1
                headers = dead_letter_headers(record, operator.name, error)
                self._assembly.outlet(topic).append((*letter, headers, None))
            case Skip():
                counts.skipped += 1
            case Fail() if answered:  # whoever asked knows, and nobody else waits for this record
                counts.failed += 1
            case Fail():
                counts.failed += 1
                place = None if record is None else (record.topic(), record.partition())
                offset = None if record is None else record.offset()
                self.failure = TaskFailure(operator.name, error, place, offset)

    def _answered(self, operator: Node, error: Exception, record: RawRecord) -> bool:
        """Tell the error to whoever asked, if it arose before, in or behind the agent that was asked."""
        _, asked = without_request(record.headers())
        if asked is None:
            return False
        topology = self._assembly.topology
        for node in topology.nodes:
            if asked.agent == address(topology.app_id, node.name):
                concerned = operator in lineage(node) or node in lineage(operator)
                if concerned:
                    self._assembly.replies.append(error_reply(asked, error, record.timestamp()[1]))
                return concerned
        return False
