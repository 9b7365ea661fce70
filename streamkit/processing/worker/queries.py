"""Rows by key over HTTP: `GET /tables/{table}/{key}` at any worker of the app that serves HTTP.

    server's thread   the path ──► the owner elsewhere: ask it, pass its answer on
                        ▲│
    event loop          └┴► partition of the key ──► a task here: its row; none here: who has it (`Roster`)

The answer is the row as the task has processed it, which may be ahead of what is committed. A key belongs
to the partition that Kafka's own partitioner gives it; where another one wrote, `?partition=` says which.

    200  {"table": "counts", "key": "ann", "partition": 2, "value": 3}
    404  no such table, or no such row
    502  what answers for the worker that has it is none of this app's
    503  its task is between two owners, or restoring: ask again (Retry-After)

Keys are percent-encoded: UTF-8, or any bytes where keys are bytes. Addresses come from the client ids of the
group's members, in which who may join may write anything: an answer from there is passed on if it is short,
soon there, and in the form of one of ours.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from string import punctuation
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes, urlsplit

import msgspec

from streamkit.processing.partitioner import partition_for
from streamkit.processing.serde import BYTES, STR, UNDECLARED_KEY, Serde
from streamkit.processing.topology import Plan, Subtopology, TableNode
from streamkit.processing.worker.roster import Peer, Roster, owner_of
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.telemetry.exposition import JSON, Reply

ANSWER_S = 2.0
ANSWER_BYTES = 16 << 20
READ_BYTES = 1 << 16
MOST_DIGITS = 10  # of a partition's number; Python reads no text of thousands
KNOWN_S = 0.5  # so long may what is known of the group be old
PASSED_ON = "X-Streamkit-App"  # set on a query that another worker passes on: which app it is of
FORMS = {"table", "key", "partition", "value"}, {"error"}
LOOPBACK = ("127.", "::1", "localhost")

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Queryable(msgspec.Struct, frozen=True):
    """A table as queries see it. `key`: of the stream that writes it, which partitions it, too."""

    name: str
    sub: Subtopology
    key: Serde[Any]
    value: Serde[Any]


class Refusal(Exception):
    """An answer other than a row."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class TableQueries:
    """Make it on the worker's loop; `reply` runs in the server's threads. `runner_of` gives the task at work
    here under a name (subtopology, partition), if there is one.
    """

    def __init__(
        self,
        plan: Plan,
        leaders: Sequence[str],
        roster: Roster,
        runner_of: Callable[[str], TaskRunner | None],
    ) -> None:
        self._app = plan.topology.app_id
        self._loop = asyncio.get_running_loop()
        self._tables = _queryable(plan)
        self._globals = {table.topic.name: table for table in plan.topology.global_tables}
        self._leaders = {plan.subtopology_reading(topic).index: topic for topic in leaders}
        self._roster = roster
        self._runner_of = runner_of
        self._asking = asyncio.Lock()
        self._peers: Sequence[Peer] | None = None
        self._peers_until_s = 0.0

    def reply(self, target: str, headers: Mapping[str, str]) -> Reply:
        """The answer to a GET of /tables/{table}/{key}. `target`: bytes as text, as HTTP's library has it."""
        target = quote(target, safe=punctuation, encoding="latin-1")
        try:
            address, body = self._answer(target, headers.get(PASSED_ON))
            if address is not None:
                return _passed_on(address, target, self._app)
        except Refusal as refusal:
            return refusal.status, JSON, _encode({"error": str(refusal)}) + b"\n"
        return 200, JSON, body + b"\n"

    # -- in the server's thread -------------------------------------------------------------------------

    def _answer(self, target: str, passed_on_for: str | None) -> tuple[str | None, bytes]:
        """Where to ask, or the answer."""
        if passed_on_for not in (None, self._app):
            raise Refusal(503, f"this is a worker of {self._app}, not of {passed_on_for}")
        url = urlsplit(target)
        parts = url.path.split("/")  # "", "tables", table, key
        if len(parts) != 4 or not parts[3]:
            raise Refusal(404, f"GET /tables/TABLE/KEY; tables: {', '.join([*self._tables, *self._globals])}")
        name, data = unquote(parts[2]), unquote_to_bytes(parts[3])
        number = parse_qs(url.query).get("partition", [None])[0]
        asked = self._ask(name, data, number, here=passed_on_for is not None)
        try:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result(ANSWER_S)
        except RuntimeError:
            asked.close()
            raise Refusal(503, "the worker is stopping") from None
        except TimeoutError:  # the answer to this may still come, for those who ask later
            raise Refusal(
                503, f"no answer within {ANSWER_S:g} s: the group's coordinator may be away"
            ) from None

    # -- on the loop ------------------------------------------------------------------------------------

    async def _ask(
        self, name: str, data: bytes, number: str | None, *, here: bool
    ) -> tuple[str | None, bytes]:
        if name in self._globals:
            topic = self._globals[name].topic
            key = _key(data, topic.key or UNDECLARED_KEY)
            return None, _row(name, data, None, self._globals[name].get(key), topic.value)
        table = self._tables.get(name)
        if table is None:
            raise Refusal(404, f"no table {name}; tables: {', '.join([*self._tables, *self._globals])}")
        key = _key(data, table.key)
        partition = _partition(number, table, key)
        runner = self._runner_of(f"{table.sub.index}_{partition}")
        if runner is None:
            if here:
                raise Refusal(503, f"partition {partition} of {name} has just moved on; ask again")
            return await self._address(table, partition), b""
        if not runner.ready:
            raise Refusal(503, f"partition {partition} of {name} is being restored; ask again")
        return None, _row(name, data, partition, runner.task.row(name, key), table.value)

    async def _address(self, table: Queryable, partition: int) -> str:
        async with self._asking:  # one for all: a coordinator that is away must not take every thread
            if monotonic() > self._peers_until_s:
                self._peers = await self._roster.peers()
                self._peers_until_s = monotonic() + KNOWN_S
        if self._peers is None:
            raise Refusal(503, "the group is being rebalanced; ask again")
        owner = owner_of((self._leaders[table.sub.index], partition), self._peers)
        if owner is None:
            raise Refusal(503, f"partition {partition} of {table.name} has no owner at present; ask again")
        if owner.address is None:
            raise Refusal(
                503, f"partition {partition} of {table.name} is at a worker that serves no tables (--http)"
            )
        return owner.address


def is_loopback(host: str) -> bool:
    return host.startswith(LOOPBACK)


def reached_at(host: str, port: int) -> str:
    """What others are told of a server that listens there."""
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def not_served(target: str, headers: Mapping[str, str]) -> Reply:
    """Where anybody on the network may ask, tables are shown only by decision."""
    error = "tables are served on loopback only, unless --serve-tables or App(serve_tables=True) says more"
    return 403, JSON, _encode({"error": error}) + b"\n"


def _queryable(plan: Plan) -> dict[str, Queryable]:
    found = {}
    for sub in plan.subtopologies:
        for table in sub.tables:
            writer = next(node for node in sub.nodes if table.name in plan.topology.claims.get(node.name, ()))
            key = writer.parents[0].key_serde if writer.parents else writer.key_serde
            found[table.name] = Queryable(table.name, sub, key, table.value)
        for node in sub.nodes:
            if isinstance(node, TableNode):
                found[node.name] = Queryable(node.name, sub, node.key_serde, node.value_serde)
    return found


def _key(data: bytes, serde: Serde[Any]) -> Any:
    """The key that this stands for: as it is, or as JSON where keys are."""
    if serde.name in (BYTES.name, UNDECLARED_KEY.name):
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Refusal(400, f"{data!r} is no key of this table: it is not UTF-8") from None
    if serde.name == STR.name:
        return text
    for written in (text, json.dumps(text)):
        try:
            return serde.decode(written.encode())
        except Exception:
            continue
    raise Refusal(400, f"{text!r} is no key of this table")


def _partition(number: str | None, table: Queryable, key: Any) -> int:
    count = table.sub.partitions
    if number is None:
        return partition_for(table.key.encode(key), count)
    if not number.isdecimal() or len(number) > MOST_DIGITS or int(number) >= count:
        raise Refusal(400, f"{table.name} has the partitions 0 to {count - 1}, no {number}")
    return int(number)


def _row(name: str, data: bytes, partition: int | None, value: Any, serde: Serde[Any]) -> bytes:
    key = data.decode(errors="replace")
    if value is None:
        raise Refusal(404, f"{name} has no row {key}")
    is_json = serde.name.startswith(("json", "pydantic"))
    shown = msgspec.Raw(serde.encode(value)) if is_json else value
    return _encode({"table": name, "key": key, "partition": partition, "value": shown})


def _passed_on(address: str, target: str, app: str) -> Reply:
    try:
        with HTTPResponse(_Received(_fetched(address, target, app))) as answer:  # type: ignore[arg-type]
            answer.begin()
            content_type, body = answer.getheader("Content-Type", ""), answer.read()
    except (OSError, HTTPException) as error:
        raise Refusal(503, f"the owner, at {address}, does not answer: {error}") from None
    if content_type != JSON or not _of_a_worker(body):
        raise Refusal(502, f"what answers at {address} is no worker of {app}")
    return answer.status, JSON, body


def _fetched(address: str, target: str, app: str) -> bytes:
    """What is sent there before it hangs up."""
    deadline_s = monotonic() + ANSWER_S
    host, _, port = address.rpartition(":")
    request = f"GET {target} HTTP/1.1\r\nHost: {address}\r\n{PASSED_ON}: {app}\r\nConnection: close\r\n\r\n"
    received = bytearray()
    with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as connection:
        connection.sendall(request.encode())
        while data := connection.recv(READ_BYTES):
            received += data
            if len(received) > ANSWER_BYTES:
                raise OSError(f"it sends more than {ANSWER_BYTES} bytes")
            connection.settimeout(max(0.001, deadline_s - monotonic()))
    return bytes(received)


class _Received:
    """A socket with nothing more to come, for `HTTPResponse` to read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)


def _of_a_worker(body: bytes) -> bool:
    try:
        return _decode(body).keys() in FORMS
    except msgspec.DecodeError:
        return False
