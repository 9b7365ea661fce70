"""A broker of metadata only: decisions are replayed in memory, a few partitions are logs of plain numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from typing import Any, TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.effective_config import topic_config
from streamkit.broker.server.cluster.lost_leaders import LostLeaders
from streamkit.broker.server.cluster.metadata_answers import MetadataAnswers
from streamkit.broker.server.dispatch import Encoded
from streamkit.broker.storage.errors import OffsetOutOfRangeError
from streamkit.protocol.api import APIS
from streamkit.protocol.codec import decode, encode
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from streamkit.protocol.schema import Message
from tests.broker.controller.cluster import Cluster

Reply = TypeVar("Reply")


class StubController:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def submit(self, decide: Callable[[Controller], Decision[Reply]]) -> Reply:
        return self.cluster.apply(decide(self.cluster.controller))

    async def create_missing(self, names: Sequence[str]) -> dict[str, int]:
        topics = [CreatableTopic(name=name, num_partitions=-1, replication_factor=-1) for name in names]
        response = await self.submit(
            lambda controller: controller.create_topics(CreateTopicsRequest(topics=topics))
        )
        return {one.name: one.error_code for one in response.topics}


class StubLog:
    def __init__(self, broker: StubBroker, topic: str) -> None:
        self.config = topic_config(broker.metadata, broker.config, topic)
        self.high_watermark = 10

    def delete_records(self, offset: int) -> int:
        if not 0 <= offset <= self.high_watermark:
            raise OffsetOutOfRangeError("out of range")
        return offset


class StubActor:
    def __init__(self, log: StubLog) -> None:
        self.log = log
        self.high_watermark = log.high_watermark


class StubPartitions:
    def __init__(self, broker: StubBroker) -> None:
        self._broker = broker

    def get(self, topic: str, partition: int) -> StubActor | None:
        if self._broker.metadata.partition(topic, partition) is None:
            return None
        return StubActor(StubLog(self._broker, topic))

    def led(self, topic: str, partition: int) -> StubActor | None:
        if self._broker.metadata.partition(topic, partition) is None:
            return None
        return StubActor(StubLog(self._broker, topic))


class StubDirectory:
    cluster_id = "a-cluster"


class StubBroker:
    def __init__(self, cluster: Cluster, **properties: str) -> None:
        self.config = BrokerConfig.from_properties(
            {key.replace("_", "."): text for key, text in properties.items()}
        )
        self.metadata = cluster.image
        self.controller = self.controller_client = StubController(cluster)
        self.directory = StubDirectory()
        self.failures: list[int] = []
        self.partitions = StubPartitions(self)
        self.lost_leaders = LostLeaders(lambda: cluster.image, cluster.clock)
        self.metadata_answers = MetadataAnswers(cluster.image, cluster_id="a-cluster", leader_id=lambda: 1)

    def count_failure(self, api: int, code: int) -> None:
        self.failures.append(code)

    def count_failures(self, api: int, codes: Iterable[int]) -> None:
        self.failures += [code for code in codes if code]

    def why_missing(self, topic: str, partition: int) -> ErrorCode:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class StubRequest:
    def __init__(self, version: int, listener: str) -> None:
        self.version = version
        self.listener = listener
        self.is_behind = self.pipelined = False


Handle = Callable[[Any, Any, Any], Message | Awaitable[Message] | object]


async def ask(
    handle: Handle, broker: StubBroker, message: Message, version: int, *, listener: str = "PLAINTEXT"
) -> Any:
    """The answer to `message` as a client that speaks `version` reads it."""
    api = APIS[message.KEY]
    request = StubRequest(version, listener)
    received = decode(api.request, encode(message, version), version)
    answer = handle(broker, request, received)
    if isawaitable(answer):
        answer = await answer
    if isinstance(answer, Encoded):
        return decode(api.response, answer.body, version)
    assert isinstance(answer, Message)
    return decode(api.response, encode(answer, version), version)
