"""Results of a join on a foreign key that need not fit into memory.

Keys are a cache over the store, as in other tables. An index has those whose result is gone by the stream
time at which that happened, so that they are forgotten in the order of time, from where the last reading
ended. That time stands in no changelog: after a restore they wait for the watermark to move, as if it had
been then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import PORTION
from streamkit.processing.state.cache import with_keys
from streamkit.processing.state.foreign_keys import Answer, decode_answer, encode
from streamkit.processing.state.rows import CachedRows
from streamkit.processing.state.store import Change, Store, Stored
from streamkit.processing.state.timeline import BIAS, BIAS_BYTES, number_in, ordered
from streamkit.processing.tasks.watermark import NEVER

Known = tuple[int, Any]  # version, result
EARLIEST, LATEST = -BIAS, BIAS - 1  # ms; the earliest stands for a time that is not known
NIL = b"\xc0"  # with what an answer without a result ends; others may


class GoneIndex:
    """(time, key) of a result that is gone → its version. What the commit under way leaves behind or adds
    beside its entries the state has to say.
    """

    version = "gone 1"

    def __init__(self) -> None:
        self.times: dict[bytes, int] = {}  # key → when its result went
        self.over: list[bytes] = []  # names that stand for nothing any more

    def load(self, store: Store) -> None:
        self.times.clear()
        self.over.clear()

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        for name in self.over:
            yield name, None
        for key, value in entries.items():
            if value is None and not self.over:  # a copy, or a restore: it has the name without a time
                yield _name(EARLIEST, key), None
            elif (
                value is not None and value.endswith(NIL) and (answer := decode_answer(value)).result is None
            ):
                yield _name(self.times.get(key, EARLIEST), key), b"%d" % answer.version
        self.times.clear()
        self.over.clear()


def _name(time_ms: int, key: bytes) -> bytes:
    return ordered(time_ms) + key


class StoredResults(CachedRows):
    """See `Results`. In the cache is `Known`, or None: nothing is.

    Invariants: what is gone and not in the index is in `_gone`, and touched since the last commit or taken by
    the one under way. Names before `_cursor` are done with, those behind are not before `_earliest_ms`.
    """

    def __init__(self, key: Serde[Any], value: Serde[Any], store: Store) -> None:
        super().__init__(key, value, store)
        self._gone: list[tuple[int, int, bytes, Any]] = []  # heap: stream time, version, encoded key, key
        self._over: list[bytes] = []
        self._committing: dict[Any, None] = {}
        self._cursor = b""
        self._earliest_ms = EARLIEST
        self._loaded_ms = NEVER
        self._index = GoneIndex()
        store.keep_index(self._index)

    @property
    def cached(self) -> int:
        return len(self._cache) + len(self._gone) + len(self._over)

    # -- answers --------------------------------------------------------------------------------------

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Read what these records need."""
        found = with_keys(records, self._key.decode)
        self._read(dict.fromkeys(key for key, _ in found if key not in self._cache))

    def get(self, key: Any) -> Any:
        known = self._known(key)
        return None if known is None else known[1]

    def as_of(self, key: Any, time_ms: int) -> Any:
        return self.get(key)

    def is_current(self, key: Any, answer: Answer) -> bool:
        known = self._known(key)
        return known is None or answer.version >= known[0]

    def result(self, answer: Answer) -> Any:
        return None if answer.result is None else self._value.decode(answer.result)

    def keep(self, key: Any, answer: Answer, result: Any, stream_time: int) -> None:
        self._cache[key] = (answer.version, result)
        self._touched[key] = None
        if result is None:
            heappush(self._gone, (stream_time, answer.version, self._key.encode(key), key))

    def _known(self, key: Any) -> Known | None:
        if key not in self._cache:
            self._read((key,))
        known: Known | None = self._cache[key]
        return known

    def _read(self, keys: Iterable[Any]) -> None:
        wanted = {key: self._key.encode(key) for key in keys}
        stored = self.store.get_many(list(wanted.values())) if wanted else ()
        for key, data in zip(wanted, stored, strict=True):
            answer = None if data is None else decode_answer(data)
            self._cache[key] = None if answer is None else (answer.version, self.result(answer))

    # -- time -----------------------------------------------------------------------------------------

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[None]:
        while self._gone and self._gone[0][0] < watermark_ms:
            time_ms, version, data, key = heappop(self._gone)
            self._forget(key, version)
            if key in self._committing:
                self._over.append(_name(time_ms, data))
        while self._loaded_ms < watermark_ms and self._earliest_ms < watermark_ms:
            names = self.store.find(self._cursor, _name(watermark_ms, b""), PORTION)
            found = [(self._key.decode(name[BIAS_BYTES:]), int(version)) for name, version in names]
            self._read(key for key, _ in found if key not in self._cache)
            for key, version in found:
                self._forget(key, version)
            self._over += [name for name, _ in names]
            if len(names) < PORTION:
                self._earliest_ms = self._first_from(_name(watermark_ms, b""))
            else:
                self._cursor = names[-1][0] + b"\0"
                yield None

    def _forget(self, key: Any, version: int) -> None:
        """If the result is still gone."""
        if self._cache.get(key) == (version, None):
            self._cache[key] = None
            self._touched[key] = None

    def _first_from(self, start: bytes) -> int:
        """The earliest time that the index has from here on."""
        self._cursor = start
        for name, _ in self.store.find(start, None, 1):
            return number_in(name)
        return LATEST

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        self._index.times = {data: time_ms for time_ms, _, data, _ in sorted(self._gone, key=_version)}
        self._index.over += self._over
        self._over.clear()
        self._committing = self._touched.copy()
        return super().changes()

    def written(self) -> None:
        for time_ms, _, data, key in self._gone:
            if key in self._committing:
                self._earliest_ms = min(self._earliest_ms, time_ms)
                self._cursor = min(self._cursor, _name(time_ms, data))
        self._committing = {}
        self._gone = [entry for entry in self._gone if self._is_fresh(entry)]
        heapify(self._gone)
        super().written()

    def _is_fresh(self, entry: tuple[int, int, bytes, Any]) -> bool:
        _, version, _, key = entry
        return key in self._touched and self._cache.get(key) == (version, None)

    def load(self, watermark_ms: int) -> None:
        super().load(watermark_ms)
        self._gone.clear()
        self._over.clear()
        self._committing = {}
        self._loaded_ms = watermark_ms
        self._earliest_ms = self._first_from(b"")

    def _encoded(self, kept: Known | None) -> bytes | None:
        if kept is None:
            return None
        version, result = kept
        return encode(Answer(version, None if result is None else self._value.encode(result)))


def _version(entry: tuple[int, int, bytes, Any]) -> int:
    return entry[1]
