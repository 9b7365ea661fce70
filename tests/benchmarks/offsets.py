"""Restart of a coordinator that a million commits lie behind: 1,000 groups, 10 partitions each, 100 rounds.

The commits are written into the log of a broker that is down, as its coordinator writes them, one batch for
each request; committing them one by one would take minutes. None of them has been cleaned away: by default a
segment of `__consumer_offsets` is not full yet. Then the broker is started and killed, and what counts is the
start after that, until groups are told their offsets.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import TypeVar

from streamkit.broker.coordination.group.records import OffsetCommitValue, offset_record
from streamkit.broker.coordination.placement import partition_for
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.protocol.schema import Message
from tests.support.broker_process import BrokerProcess

GROUPS = [f"group-{number:04d}" for number in range(1_000)]
PARTITIONS = 10
ROUNDS = 100
OFFSETS_PARTITIONS = 50
FETCH_VERSION = 8
FIND_VERSION = 4
ANSWERED_WITHIN_S = 60
Answer = TypeVar("Answer", bound=Message)
LOADING = (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR)


def prepare(broker: BrokerProcess, topic: str) -> None:
    """Have a broker that runs lie dead over a million commits."""
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        _have_coordinators(connection)
    broker.stop()
    _write_commits(broker.data_dir, topic)
    broker.start()
    broker.kill()


def restart_s(broker: BrokerProcess, topic: str) -> tuple[float, float]:
    """Seconds from the start of a broker to the first group's offsets, and to the last one's."""
    began = time.perf_counter()
    broker.start()
    first, last = _answered(broker.port, topic)
    broker.kill()
    return first - began, last - began


def _write_commits(directory: Path, topic: str) -> None:
    groups = defaultdict(list)
    for group in GROUPS:
        groups[partition_for(group, OFFSETS_PARTITIONS)].append(group)
    now_ms = int(time.time() * 1000)
    for number, names in groups.items():
        log = directory / f"__consumer_offsets-{number}" / f"{0:020}.log"
        with log.open("ab") as file:
            end = 0
            for offset in range(ROUNDS):
                for name in names:
                    file.write(_batch(name, topic, offset, now_ms, end))
                    end += PARTITIONS


def _batch(group: str, topic: str, offset: int, now_ms: int, base_offset: int) -> bytes:
    value = OffsetCommitValue(offset=offset, commit_timestamp=now_ms)
    made = [offset_record(group, topic, index, value) for index in range(PARTITIONS)]
    records = [Record(timestamp=now_ms, key=one.key, value=one.value) for one in made]
    return encode_batch(records, base_offset=base_offset, leader_epoch=0)


def _answered(port: int, topic: str) -> tuple[float, float]:
    """When the first group was told its offsets, and when the last one was; each as it committed them."""
    deadline = time.monotonic() + ANSWERED_WITHIN_S
    first, waiting = None, deque(GROUPS)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} groups are without an answer"
            group = waiting.popleft()
            if not _is_answered(connection, group, topic):
                waiting.append(group)
            elif first is None:
                first = time.perf_counter()
    assert first is not None
    return first, time.perf_counter()


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────


def _have_coordinators(connection: socket.socket) -> None:
    """The first question for one makes the topic."""
    wanted = FindCoordinatorRequest(coordinator_keys=GROUPS)
    deadline = time.monotonic() + ANSWERED_WITHIN_S
    codes = {-1}
    while codes != {ErrorCode.NONE}:
        assert time.monotonic() < deadline, f"no coordinators: {codes}"
        found = _ask(connection, wanted, FindCoordinatorResponse, FIND_VERSION)
        codes = {one.error_code for one in found.coordinators}


def _is_answered(connection: socket.socket, group: str, topic: str) -> bool:
    wanted = OffsetFetchRequestTopics(name=topic, partition_indexes=list(range(PARTITIONS)))
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[wanted])])
    (found,) = _ask(connection, request, OffsetFetchResponse, FETCH_VERSION).groups
    if found.error_code in LOADING:
        return False
    offsets = {partition.committed_offset for partition in found.topics[0].partitions}
    assert (found.error_code, offsets) == (ErrorCode.NONE, {ROUNDS - 1})
    return True


def _ask(connection: socket.socket, request: Message, answer: type[Answer], version: int) -> Answer:
    connection.sendall(b"".join(encode_request(request, version, correlation_id=1, client_id="bench")))
    size = int.from_bytes(_exactly(connection, 4), "big")
    _, message = decode_response(answer, _exactly(connection, size), version)
    return message


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        received = connection.recv(count - len(data))
        assert received, "the broker closed the connection"
        data += received
    return bytes(data)
