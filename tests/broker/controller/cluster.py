"""A controller without a broker: decisions are replayed at once, in memory."""

from __future__ import annotations

import random
from typing import Any, TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.features import SUPPORTED
from streamkit.broker.controller.image import MetadataChanges, MetadataImage, PartitionRegistration
from streamkit.broker.controller.records import MetadataRecord, decode_record, encode_record
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionRequestTopicData,
    AlterPartitionResponsePartitionData,
    BrokerState,
)
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopic,
)
from streamkit.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from streamkit.protocol.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
    Feature,
    Listener,
)
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


class ManualClock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


CLUSTER_ID = "cluster"
NODE_ID = 100  # the active controller's; no broker shares its process unless a test says so


class Cluster:
    """A controller, its image, and the log of everything that it decided."""

    def __init__(
        self, *, brokers: int = 1, racks: tuple[str | None, ...] = (None,), **properties: str
    ) -> None:
        given = {key.replace("_", "."): text for key, text in properties.items()}
        self.config = BrokerConfig.from_properties({"node.id": str(NODE_ID), **given})
        self.image = MetadataImage()
        self.clock = ManualClock()
        self.become_active()
        self.log: list[bytes] = []
        self.changes = MetadataChanges()
        for broker_id in range(1, brokers + 1):
            self.start(broker_id, rack=racks[(broker_id - 1) % len(racks)])

    def become_active(self, *, lost_leader: int | None = None) -> None:
        """A node begins to decide, on the image as it is."""
        self.controller = Controller(
            self.image,
            self.config,
            clock=self.clock,
            rng=SeededRng(),
            cluster_id=CLUSTER_ID,
            lost_leader=lost_leader,
        )

    def apply(self, decision: Decision[Reply]) -> Reply:
        self.changes = MetadataChanges()
        version = self.image.metadata_version
        for record in decision.records:
            self.image.replay(record, len(self.log), self.changes)
            self.log.append(encode_record(record, version))
        return decision.reply

    def start(
        self, broker_id: int, *, rack: str | None = None, process: int = 0, previous_epoch: int = -1
    ) -> int:
        """Register a broker process and unfence it; its epoch."""
        epoch = self.registered(broker_id, rack=rack, process=process, previous_epoch=previous_epoch)
        assert not self.beat(broker_id).is_fenced
        return epoch

    def registered(self, broker_id: int, **facts: Any) -> int:
        """Register a broker process; its epoch."""
        response = self.register(broker_id, **facts)
        assert not response.error_code
        return response.broker_epoch

    def register(
        self,
        broker_id: int,
        *,
        rack: str | None = None,
        process: int = 0,
        previous_epoch: int = -1,
        directories: list[bytes] | None = None,
        **fields: Any,
    ) -> BrokerRegistrationResponse:
        """Ask to register the broker's process number `process`."""
        facts: dict[str, Any] = {
            "broker_id": broker_id,
            "cluster_id": CLUSTER_ID,
            "incarnation_id": bytes([broker_id, process]) * 8,
            "listeners": [Listener(name="PLAINTEXT", host="localhost", port=9000 + broker_id)],
            "features": [
                Feature(name=one.name, min_supported_version=one.lowest, max_supported_version=one.highest)
                for one in SUPPORTED
            ],
            "rack": rack,
            "log_dirs": directories or [bytes([100 + broker_id]) * 16],
            "previous_broker_epoch": previous_epoch,
            **fields,
        }
        return self.apply(self.controller.register_broker(BrokerRegistrationRequest(**facts)))

    def beat(self, broker_id: int, **fields: Any) -> BrokerHeartbeatResponse:
        """A heartbeat of the broker's present process, which has replayed everything."""
        broker = self.image.brokers.get(broker_id)
        facts: dict[str, Any] = {
            "broker_id": broker_id,
            "broker_epoch": broker.epoch if broker else 0,
            "current_metadata_offset": self.image.offset,
            **fields,
        }
        return self.apply(self.controller.heartbeat(BrokerHeartbeatRequest(**facts)))

    def fence(self, *broker_ids: int) -> None:
        """The brokers wish it so."""
        for broker_id in broker_ids:
            assert self.beat(broker_id, want_fence=True).is_fenced

    def partition(self, topic: str = "orders", index: int = 0) -> PartitionRegistration:
        return self.image.topics[topic].partitions[index]

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


def alter_isr(
    cluster: Cluster, isr: list[int], *, broker_id: int = 1, topic_id: bytes = b"", **fields: Any
) -> AlterPartitionResponsePartitionData:
    """Ask for an ISR as the partition's leader would that knows everything, unless said otherwise."""
    partition = cluster.partition()
    facts: dict[str, Any] = {
        "partition_index": 0,
        "leader_epoch": partition.leader_epoch,
        "partition_epoch": partition.partition_epoch,
        "new_isr_with_epochs": [
            BrokerState(broker_id=one, broker_epoch=cluster.image.brokers[one].epoch if one < 5 else 0)
            for one in isr
        ],
        **fields,
    }
    request = AlterPartitionRequest(
        broker_id=broker_id,
        broker_epoch=cluster.image.brokers[broker_id].epoch,
        topics=[
            AlterPartitionRequestTopicData(
                topic_id=topic_id or cluster.image.topics["orders"].topic_id,
                partitions=[AlterPartitionRequestPartitionData(**facts)],
            )
        ],
    )
    response = cluster.apply(cluster.controller.alter_partition(request))
    assert response.error_code == ErrorCode.NONE
    (answered,) = response.topics
    (partition_answer,) = answered.partitions
    return partition_answer


def move(
    cluster: Cluster, replicas: list[int] | None, *, name: str = "orders", index: int = 0, **fields: Any
) -> ReassignablePartitionResponse:
    request = AlterPartitionReassignmentsRequest(
        topics=[
            ReassignableTopic(
                name=name, partitions=[ReassignablePartition(partition_index=index, replicas=replicas)]
            )
        ],
        **fields,
    )
    (answered,) = cluster.apply(cluster.controller.reassign_partitions(request)).responses
    (partition,) = answered.partitions
    return partition
