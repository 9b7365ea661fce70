"""The three states of a foreign-key join: versions of left rows, subscriptions at right rows, results.

    left task      each change of a row takes the next version; the row goes to where its foreign key lives
    right task     remembers which left rows point at a row, and answers them: at once, and when it changes
    result task    keeps the latest answer for each left row

A row that moves to another parent is told to both; answers may come in any order, but each carries the
version of the left row that it is for, and an older one is dropped. So a result is replaced, never
resurrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

import msgspec

from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.cache import CACHED, typical_bytes, with_keys
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store
from streamkit.processing.state.views import TableView

Message = tuple[bytes, bytes]  # key, value
VERSION = b"version"


class Subscription(msgspec.Struct, array_like=True, frozen=True):
    """What a left row tells a right one. `row=None`: it points here no more; `answer`: and nowhere else."""

    left: bytes  # key of the left row
    version: int
    row: bytes | None
    points: bool  # does the row have a foreign key?
    answer: bool


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What a right row tells the result of a left one; the key of the record is the left row's."""

    version: int
    result: bytes | None


encode = msgspec.msgpack.Encoder().encode
decode_subscription = msgspec.msgpack.Decoder(Subscription).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
_decode_pointing = msgspec.msgpack.Decoder(dict[bytes, tuple[int, bytes]]).decode


class Versions:
    """A number that grows with every change of a left row in this partition."""

    def __init__(
        self, on: Callable[[Any], Any], key: Serde[Any], value: Serde[Any], parent: Serde[Any], store: Store
    ) -> None:
        self.store = store
        self._on = on
        self._encode_key = key.encode
        self._encode_value = value.encode
        self._encode_parent = parent.encode
        self._version = 0

    def messages(self, key: Any, new: Any, old: Any) -> list[Message]:
        """What the parents must hear of a change."""
        left, version = self._encode_key(key), self._version + 1
        now = None if new is None else self._on(new)
        before = None if old is None else self._on(old)
        to = None if now is None else self._encode_parent(now)
        away = None if before is None else self._encode_parent(before)
        messages: list[Message] = []
        if away is not None and away != to:
            gone = Subscription(left, version, None, True, new is None)
            messages.append((away, encode(gone)))
        if to is not None:
            messages.append((to, encode(Subscription(left, version, self._encode_value(new), True, True))))
        elif new is not None:  # no foreign key: any task can answer
            messages.append((left, encode(Subscription(left, version, self._encode_value(new), False, True))))
        elif away is None:
            messages.append((left, encode(Subscription(left, version, None, False, True))))
        self._version = version
        return messages

    def advance(self, watermark_ms: int, now_ms: int) -> Iterable[Computed]:
        return ()

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        version = b"%d" % self._version
        return [] if not self._version or self.store.get(VERSION) == version else [(VERSION, version)]

    def written(self) -> None:
        """Nothing."""

    def load(self, watermark_ms: int) -> None:
        self._version = int(self.store.get(VERSION) or 0)

    def __len__(self) -> int:
        return 1


class Subscriptions:
    """Key of a right row → the left rows that point at it, each with its version and bytes.

    In memory are those that were asked for; where the store spills, as many as fit.
    """

    def __init__(
        self, join: Callable[[Any, Any], Any], left: Serde[Any], right_key: Serde[Any], store: Store
    ) -> None:
        self.store = store
        self.spills = store.spills
        self.cached_most = CACHED
        self.entry_bytes = 0
        self.encode_result: Callable[[Any], bytes] = bytes
        self._join = join
        self._left = left
        self._right_key = right_key
        self._pointing: dict[bytes, dict[bytes, tuple[int, bytes]]] = {}
        self._touched: dict[bytes, None] = {}

    @property
    def cached(self) -> int:
        return len(self._pointing)

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Read what these records need: they have the keys of right rows."""
        keys = (self._right_key.encode(key) for key, _ in with_keys(records, self._right_key.decode))
        missing = list(dict.fromkeys(parent for parent in keys if parent not in self._pointing))
        for parent, data in zip(missing, self.store.get_many(missing) if missing else (), strict=True):
            self._pointing[parent] = {} if data is None else _decode_pointing(data)

    def subscribed(self, parent: bytes, message: Subscription, rows: TableView) -> list[Message]:
        """A left row speaks to the right row `parent`."""
        right = None
        if message.row is not None and message.points:
            right = rows.get(self._right_key.decode(parent))
        answers: list[Message] = []
        if message.answer:
            answers.append(self._answer(message.left, message.version, message.row, right))
        if not message.points:
            return answers
        pointing = self._at(parent)
        if message.row is None:
            pointing.pop(message.left, None)
        else:
            pointing[message.left] = (message.version, message.row)
        self._touched[parent] = None
        return answers

    def changed(self, key: Any, row: Any) -> list[Message]:
        """The right row changed: answer all who point at it."""
        pointing = self._at(self._right_key.encode(key))
        return [self._answer(left, version, data, row) for left, (version, data) in pointing.items()]

    def _answer(self, left: bytes, version: int, data: bytes | None, right: Any) -> Message:
        result = None if data is None else self._join(self._left.decode(data), right)
        return left, encode(Answer(version, None if result is None else self.encode_result(result)))

    def _at(self, parent: bytes) -> dict[bytes, tuple[int, bytes]]:
        pointing = self._pointing.get(parent)
        if pointing is None:
            data = self.store.get(parent)
            pointing = self._pointing[parent] = {} if data is None else _decode_pointing(data)
        return pointing

    def advance(self, watermark_ms: int, now_ms: int) -> Iterable[Computed]:
        return ()

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for parent, before in zip(self._touched, self.store.get_many(list(self._touched)), strict=True):
            pointing = self._pointing[parent]
            after = encode(pointing) if pointing else None
            if after != before:
                changed.append((parent, after))
        self._touched.clear()
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        return changed

    def written(self) -> None:
        if self.spills and self.cached > self.cached_most:
            self._pointing = {parent: self._pointing[parent] for parent in self._touched}
        else:
            known = self._pointing.items()
            self._pointing = {name: some for name, some in known if some or name in self._touched}

    def load(self, watermark_ms: int) -> None:
        self._pointing.clear()

    def __len__(self) -> int:
        return len(self.store)


class Results:
    """Key of a left row → (version, result).

    A result that is gone keeps its version until no older answer can be on its way: until the watermark of
    all right tasks has passed it.
    """

    def __init__(self, key: Serde[Any], value: Serde[Any], store: Store) -> None:
        self.store = store
        self._key = key
        self._value = value
        self._known: dict[Any, tuple[int, Any]] = {}
        self._touched: dict[Any, None] = {}
        self._gone: list[tuple[int, int, Any]] = []  # heap: stream time, version, key

    def get(self, key: Any) -> Any:
        known = self._known.get(key)
        return None if known is None else known[1]

    def as_of(self, key: Any, time_ms: int) -> Any:
        return self.get(key)

    def is_current(self, key: Any, answer: Answer) -> bool:
        known = self._known.get(key)
        return known is None or answer.version >= known[0]

    def result(self, answer: Answer) -> Any:
        return None if answer.result is None else self._value.decode(answer.result)

    def keep(self, key: Any, answer: Answer, result: Any, stream_time: int) -> None:
        self._known[key] = (answer.version, result)
        self._touched[key] = None
        if result is None:
            heappush(self._gone, (stream_time, answer.version, key))

    def advance(self, watermark_ms: int, now_ms: int) -> Iterable[Computed]:
        while self._gone and self._gone[0][0] < watermark_ms:
            _, version, key = heappop(self._gone)
            if self._known.get(key) == (version, None):
                del self._known[key]
                self._touched[key] = None
        return ()

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for key in self._touched:
            name, known, after = self._key.encode(key), self._known.get(key), None
            if known is not None:
                version, result = known
                after = encode(Answer(version, None if result is None else self._value.encode(result)))
            if after != self.store.get(name):
                changed.append((name, after))
        self._touched.clear()
        return changed

    def written(self) -> None:
        """Nothing: results stay in memory."""

    def load(self, watermark_ms: int) -> None:
        self._known.clear()
        self._gone.clear()
        for name, data in self.store.items():
            key, answer = self._key.decode(name), decode_answer(data)
            self._known[key] = (answer.version, self.result(answer))
            if answer.result is None:
                self._gone.append((watermark_ms, answer.version, key))

    def __len__(self) -> int:
        return len(self._known)
