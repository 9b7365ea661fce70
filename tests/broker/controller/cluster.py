"""A controller without a broker: decisions are replayed at once, in memory."""

from __future__ import annotations

import random
from typing import TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.image import Endpoint, MetadataChanges, MetadataImage
from streamkit.broker.controller.records import MetadataRecord, decode_record, encode_record
from streamkit.broker.controller.registration import Registration
from streamkit.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
)

Reply = TypeVar("Reply")


class SeededRng:
    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bytes(self, stream: str, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, stream: str, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class Cluster:
    """A controller, its image, and the log of everything that it decided."""

    def __init__(
        self, *, brokers: int = 1, racks: tuple[str | None, ...] = (None,), **properties: str
    ) -> None:
        config = BrokerConfig.from_properties(
            {key.replace("_", "."): text for key, text in properties.items()}
        )
        self.image = MetadataImage()
        self.controller = Controller(self.image, config, SeededRng())
        self.log: list[bytes] = []
        self.changes = MetadataChanges()
        for broker_id in range(1, brokers + 1):
            self.register(broker_id, rack=racks[(broker_id - 1) % len(racks)])

    def apply(self, decision: Decision[Reply]) -> Reply:
        self.changes = MetadataChanges()
        for record in decision.records:
            self.image.replay(record, len(self.log), self.changes)
            self.log.append(encode_record(record))
        return decision.reply

    def register(self, broker_id: int, *, rack: str | None = None, clean_start: bool = True) -> int:
        return self.apply(
            self.controller.register_broker(
                Registration(
                    broker_id=broker_id,
                    incarnation_id=bytes([broker_id]) * 16,
                    endpoints=(Endpoint(name="PLAINTEXT", host="localhost", port=9000 + broker_id),),
                    log_dirs=(bytes([100 + broker_id]) * 16,),
                    rack=rack,
                    clean_start=clean_start,
                )
            )
        )

    def create(self, *topics: CreatableTopic, validate_only: bool = False) -> list[CreatableTopicResult]:
        request = CreateTopicsRequest(topics=list(topics), validate_only=validate_only)
        return self.apply(self.controller.create_topics(request)).topics

    def replayed(self) -> MetadataImage:
        """What a controller that reads the log from its start knows."""
        image = MetadataImage()
        for offset, value in enumerate(self.log):
            image.replay(decode_record(value), offset, MetadataChanges())
        return image


def topic(
    name: str = "orders",
    partitions: int = -1,
    replication_factor: int = -1,
    *,
    assignments: dict[int, list[int]] | None = None,
    configs: dict[str, str | None] | None = None,
) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replication_factor,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in (assignments or {}).items()
        ],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
    )


def state(image: MetadataImage) -> dict[str, object]:
    """Everything an image knows, as plain values, for comparison."""
    return {
        name: {key: (item.name, item.topic_id, item.partitions) for key, item in value.items()}
        if name.startswith("topics")
        else value
        for name, value in vars(image).items()
    }


def records_of(decision: Decision[object], kind: type[MetadataRecord]) -> list[MetadataRecord]:
    return [record for record in decision.records if isinstance(record, kind)]
