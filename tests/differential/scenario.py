"""What is played: a scenario is an async function over one `Client`, written once for a range of versions.

It is played against both servers, each time from the beginning, so that it may use what a server chose itself
(ids of topics, members and producers); all else that it sends is the same, byte for byte. Each request says
what it is: valid, at a boundary, wrong, malformed, or only there to prepare another one. The transcript of
one server is compared with the other's.

    @scenario(ApiKey.LIST_OFFSETS, "1-11")
    async def ends_of_a_log(client: Client) -> None:
        topic = await client.topic()
        await client.valid(latest(topic))
        await client.wrong(latest("no-such-topic"))
"""

from __future__ import annotations

import asyncio
import struct
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.protocol.schema import Message, versions
from tests.differential.wire import ANSWER_S, Missing, Wire

CLIENT_ID = "differential"
EARLIEST = -2
READY_S = 30
RETRY_S = 0.02
TRANSACTION_KEY, SHARE_KEY = 1, 2
NOT_YET = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.OFFSET_NOT_AVAILABLE,
    ErrorCode.CONCURRENT_TRANSACTIONS,
}


class Kind(Enum):
    VALID = "valid"
    BOUNDARY = "boundary"
    WRONG = "wrong"
    MALFORMED = "malformed"
    SETUP = "setup"


@dataclass
class Exchange:
    """A request and what became of it."""

    kind: Kind
    api: ApiKey
    version: int
    frame: bytes
    request: Message | None = None
    outcome: Message | Missing | bytes = Missing.SILENT
    """Bytes are an answer that is not a response of this version."""


Play = Callable[["Client"], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    api: ApiKey
    first: int
    last: int
    play: Play

    @property
    def name(self) -> str:
        return self.play.__name__


SCENARIOS: list[Scenario] = []


def scenario(api: ApiKey, over: str) -> Callable[[Play], Play]:
    """Enter a function into the corpus; `over` is a range of versions in Kafka's notation ("4-18")."""

    def enter(play: Play) -> Play:
        first, last = versions(over)
        SCENARIOS.append(Scenario(api, first, min(last, APIS[api].max_version), play))
        return play

    return enter


@dataclass(frozen=True)
class Topic:
    name: str
    id: bytes = bytes(16)


@dataclass
class Client:
    """One scenario in one version, played against one server."""

    port: int
    api: ApiKey
    version: int
    title: str
    """The beginning of every name that the scenario makes up."""
    replicas: tuple[int, ...] = (1,)
    """Where the partitions of its topics are. The first node leads them; it is the one that is asked."""
    transcript: list[Exchange] = field(default_factory=list)
    _wires: list[Wire] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._wire = Wire(self.port)
        self._wires.append(self._wire)

    def another(self) -> Client:
        """A client of its own connection, in the same transcript."""
        return self.at(self.port)

    def at(self, port: int) -> Client:
        """The same at another node."""
        other = Client(port, self.api, self.version, self.title, self.replicas, self.transcript)
        self._wires.append(other._wire)
        return other

    def close(self) -> None:
        for wire in self._wires:
            wire.close()

    def name(self, suffix: str = "") -> str:
        """A name that no other scenario uses, the same on both servers."""
        return f"{self.title}-{suffix}" if suffix else self.title

    async def valid(self, message: Message, version: int | None = None) -> Any:
        return await self.ask(Kind.VALID, message, version)

    async def boundary(self, message: Message, version: int | None = None) -> Any:
        return await self.ask(Kind.BOUNDARY, message, version)

    async def wrong(self, message: Message, version: int | None = None) -> Any:
        return await self.ask(Kind.WRONG, message, version)

    async def setup(self, message: Message, version: int | None = None) -> Any:
        return await self.ask(Kind.SETUP, message, version)

    async def ask(
        self, kind: Kind, message: Message, version: int | None = None, *, answer_s: float = ANSWER_S
    ) -> Any:
        """The response; None if there is none. What is not judged goes out in its newest version."""
        exchange = self._exchange(kind, message, version)
        self.transcript.append(exchange)
        await self._carry_out(exchange, answer_s)
        return exchange.outcome if isinstance(exchange.outcome, Message) else None

    async def malformed(self, body: bytes, *, answer_s: float = ANSWER_S, sent_as: int | None = None) -> None:
        """Any bytes where a request's body should be; `sent_as` is what the header says of its version."""
        flexible = self.version in APIS[self.api].request.FLEXIBLE
        version = self.version if sent_as is None else sent_as
        client_id = CLIENT_ID.encode()
        header = struct.pack(">hhih", self.api, version, 1, len(client_id)) + client_id + bytes(flexible)
        frame = (len(header) + len(body)).to_bytes(4) + header + body
        exchange = Exchange(Kind.MALFORMED, self.api, self.version, frame)
        self.transcript.append(exchange)
        await self._carry_out(exchange, answer_s)

    async def quietly(self, message: Message, version: int | None = None) -> Any:
        """Ask without a word in the transcript: how often one asks until something is ready is chance."""
        exchange = self._exchange(Kind.SETUP, message, version)
        await self._carry_out(exchange, ANSWER_S)
        return exchange.outcome

    async def until_ready(self, message: Message, error: Callable[[Any], int]) -> Any:
        """Ask until the error that `error` finds in the answer is none that passes by itself.

        The last exchange is in the transcript, for the ids in it; how many there were before it is chance.
        """
        async with asyncio.timeout(READY_S):
            while True:
                exchange = self._exchange(Kind.SETUP, message, None)
                await self._carry_out(exchange, ANSWER_S)
                answer = exchange.outcome
                if isinstance(answer, Message) and error(answer) not in NOT_YET:
                    self.transcript.append(exchange)
                    return answer
                await asyncio.sleep(RETRY_S)

    async def until(self, message: Message, holds: Callable[[Any], bool], version: int | None = None) -> None:
        """Ask quietly until the answer is as wanted: what comes true a moment later is no difference."""
        async with asyncio.timeout(READY_S):
            while not holds(await self.quietly(message, version)):
                await asyncio.sleep(RETRY_S)

    async def topic(self, suffix: str = "t", partitions: int = 1, **configs: str) -> Topic:
        """A fresh topic, led and ready; configs are spelled with underscores."""
        given = [
            CreatableTopicConfig(name=key.replace("_", "."), value=text) for key, text in configs.items()
        ]
        placed: dict[str, Any] = {"num_partitions": partitions, "replication_factor": 1}
        if len(self.replicas) > 1:
            rows = [
                CreatableReplicaAssignment(partition_index=n, broker_ids=list(self.replicas))
                for n in range(partitions)
            ]
            placed = {"num_partitions": -1, "replication_factor": -1, "assignments": rows}
        created = CreatableTopic(name=self.name(suffix), configs=given, **placed)
        answer = await self.setup(CreateTopicsRequest(topics=[created]))
        topic = Topic(self.name(suffix), answer.topics[0].topic_id)
        await self.ready(topic, partitions)
        return topic

    async def ready(self, topic: Topic, partitions: int = 1) -> None:
        """Until the broker knows the topic and leads it."""
        all_of_it = [ListOffsetsPartition(partition_index=n, timestamp=EARLIEST) for n in range(partitions)]
        offsets = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=topic.name, partitions=all_of_it)]
        )
        await self.until_ready(
            offsets, lambda answer: max(one.error_code for one in answer.topics[0].partitions)
        )

    async def gone(self, topic: Topic) -> None:
        """Until the broker does not know the topic any more."""
        asked = MetadataRequest(
            topics=[MetadataRequestTopic(name=topic.name)], allow_auto_topic_creation=False
        )
        async with asyncio.timeout(READY_S):
            while True:
                answer = await self.quietly(asked)
                if answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                    return
                await asyncio.sleep(RETRY_S)

    async def records(self, topic: Topic, count: int, partition: int = 0, **batch: Any) -> None:
        """Append one batch of `count` records, with fixed keys, values and times."""
        data = PartitionProduceData(index=partition, records=batch_of(count, **batch))
        message = ProduceRequest(
            transactional_id=batch.get("transactional_id"),
            acks=-1, timeout_ms=10_000,
            topic_data=[TopicProduceData(name=topic.name, topic_id=topic.id, partition_data=[data])],
        )  # fmt: skip
        await self.setup(message)

    async def group(self, suffix: str = "g") -> str:
        """The name of a group whose coordinator is ready."""
        name = self.name(suffix)
        await self.until_ready(
            FindCoordinatorRequest(coordinator_keys=[name]), lambda answer: answer.coordinators[0].error_code
        )
        await self.until_ready(
            OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=name, topics=None)]),
            lambda answer: answer.groups[0].error_code,
        )
        return name

    async def transactional_id(self, suffix: str = "x") -> str:
        """A transactional id whose coordinator is found."""
        name = self.name(suffix)
        await self.until_ready(
            FindCoordinatorRequest(coordinator_keys=[name], key_type=TRANSACTION_KEY),
            lambda answer: answer.coordinators[0].error_code,
        )
        return name

    async def share_partition(self, group: str, topic_id: bytes = bytes(16)) -> str:
        """The key of a share-partition whose coordinator is found."""
        key = f"{group}:{urlsafe_b64encode(topic_id).decode().rstrip('=')}:0"
        await self.until_ready(
            FindCoordinatorRequest(coordinator_keys=[key], key_type=SHARE_KEY),
            lambda answer: answer.coordinators[0].error_code,
        )
        return key

    def _exchange(self, kind: Kind, message: Message, version: int | None) -> Exchange:
        key = ApiKey(message.KEY)
        if version is None:
            judged = key is self.api and kind is not Kind.SETUP
            version = self.version if judged else APIS[key].max_version
        frame = b"".join(encode_request(message, version, correlation_id=1, client_id=CLIENT_ID))
        return Exchange(kind, key, version, frame, message)

    async def _carry_out(self, exchange: Exchange, answer_s: float) -> None:
        answer = await self._wire.exchange(exchange.frame, answer_s)
        if isinstance(answer, Missing):
            exchange.outcome = answer
            return
        try:
            _, exchange.outcome = decode_response(APIS[exchange.api].response, answer, exchange.version)
        except MalformedMessageError:
            exchange.outcome = answer


NEVER_VALID: Mapping[ApiKey, str] = {
    ApiKey.GET_TELEMETRY_SUBSCRIPTIONS: "Kafka serves it only with a plugin",
    ApiKey.PUSH_TELEMETRY: "Kafka serves it only with a plugin",
    ApiKey.UNREGISTER_BROKER: "a cluster of one node has no broker to spare",
    ApiKey.ADD_RAFT_VOTER: "there is no second controller to add",
    ApiKey.REMOVE_RAFT_VOTER: "the only voter cannot go",
}
"""APIs of which no request can succeed here, and why."""

FIRST_TIME_MS = 1_700_000_000_000


def batch_of(count: int, *, first: int = 0, time_ms: int = FIRST_TIME_MS, **batch: Any) -> bytes:
    """One batch of numbered records, a second apart."""
    batch.pop("transactional_id", None)
    rows = [
        Record(0, time_ms + 1000 * n, f"k{n}".encode(), f"value {n}".encode())
        for n in range(first, first + count)
    ]
    return encode_batch(rows, **batch)
