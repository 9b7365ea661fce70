"""Decide, then replay: the contract between a coordinator's rules and the shell that runs them.

A coordinator is split into shards, one for each partition of its internal topic. A shard's **hard state** is
what its partition's records say, and nothing else; its **soft state** (parked requests, deadlines, a
rebalance under way) is lost in a crash and rebuilt by the clients' next requests.

A request is *decided*: the shard reads its state, may move soft state, and puts into a `Decision` the records
to append and the replies to send. The shell appends the records in one batch and hands each to `replay`, the
only place where hard state changes. Loading a shard is the same `replay` over its partition, so running and
recovering cannot disagree; of a topic that is compacted, only the newest record of each key may be left.
A shard decides nothing between a decision and the replay of its records.

Replies leave in the order of their decisions, each when everything replayed before it is committed: nobody
ever reads a state that a crash could take back. If an append fails, the shard holds state that the log does
not have; the shell drops it, refuses whoever waits, and loads the shard again.

Time is an input (`Decision.at`), and timers are values (`Deadlines`): `tick` decides what is due.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.schema import Message

Token: TypeAlias = object
"""Whoever waits for a reply; means nothing to a shard, which keeps it while a request is parked."""


class Instant(NamedTuple):
    """Now, on the clock for timestamps and on the one for deadlines."""

    wall_ms: int
    monotonic_ms: int


class CoordinatorRecord(NamedTuple):
    """One record of the internal topic; a value of None deletes what the key names."""

    key: bytes
    value: bytes | None


class Producer(NamedTuple):
    """A producer in one of its epochs."""

    producer_id: int
    epoch: int


class TransactionEnd(NamedTuple):
    """What a transaction marker in the shard's partition says (WriteTxnMarkers)."""

    producer: Producer
    committed: bool
    coordinator_epoch: int


class Refusal(Exception):
    """A request that cannot be done now; each API has its own way to say so, some with the message."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or code.name)
        self.code = code
        self.message = message


class Decision:
    """What one request, or one deadline, leads to at one instant."""

    __slots__ = ("at", "commands", "events", "records", "replies", "transaction", "transaction_end")

    def __init__(self, at: Instant) -> None:
        self.at = at
        self.records: list[CoordinatorRecord] = []
        """To append as one batch, then to replay in this order."""
        self.replies: list[tuple[Token, Message]] = []
        """To send once the records, and all that was replayed before them, are committed."""
        self.transaction: Producer | None = None
        """Whose transaction the records belong to: replayed with `replay_in_transaction`."""
        self.transaction_end: TransactionEnd | None = None
        """A marker to append behind the records, then to replay with `end_transaction`."""
        self.commands: list[object] = []
        """For the shard's own shell to carry out when the replies are sent."""
        self.events: list[object] = []
        """For the metrics; nothing depends on them."""

    def withdraw(self) -> None:
        """Nothing of this is done: a refusal came while it was decided."""
        self.records.clear()
        self.replies.clear()
        self.commands.clear()
        self.transaction = self.transaction_end = None
        self.events.clear()

    def reply(self, token: Token, message: Message) -> None:
        self.replies.append((token, message))


class Shard(Protocol):
    """What the shell needs of a coordinator's shard."""

    def replay(self, key: bytes, value: bytes | None) -> None:
        """Apply one record; the only way in which hard state changes."""
        ...

    def replay_in_transaction(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        """Keep one record that counts from the end of its producer's transaction on, if that commits."""
        ...

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Apply what was kept of this producer, or forget it."""
        ...

    def loaded(self, decision: Decision) -> None:
        """Everything was replayed: start the deadlines of what was found."""
        ...

    def tick(self, at: Instant) -> Decision | None:
        """Decide one deadline that is due; None when none is."""
        ...

    def wake_at_ms(self) -> int | None:
        """The monotonic time at which `tick` may have something to do; may be early, is never late."""
        ...
