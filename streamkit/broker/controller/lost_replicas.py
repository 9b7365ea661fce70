"""AssignReplicasToDirs (73): a broker says that it lost replicas, while it goes on with all others (KIP-858).

A replica whose log turned out to be damaged is assigned to Kafka's directory `LOST`. It leaves ISR and ELR,
gives its leadership to another, and is in sync again once it has fetched everything anew. The last replica
that may hold all that was committed is never given up: damaged as it is, nobody has more; its partition halts
until somebody who knows better decides.
"""

from __future__ import annotations

from typing import Final

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import Decision, Refusal
from streamkit.broker.controller.image import MetadataImage, changed_partition
from streamkit.broker.controller.partition_change import Change, change
from streamkit.broker.controller.partition_rules import PartitionRules
from streamkit.broker.controller.records import PartitionChangeRecord
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    AssignReplicasToDirsResponseDirectoryData,
    AssignReplicasToDirsResponsePartitionData,
    AssignReplicasToDirsResponseTopicData,
)

LOST: Final = (2).to_bytes(16)


class LostReplicas:
    """The answers of one moment to one broker, whose epoch has been checked."""

    def __init__(self, image: MetadataImage, config: BrokerConfig, broker_id: int) -> None:
        self._image = image
        self._broker_id = broker_id
        self._rules = PartitionRules(
            image, config, may_lead=lambda one: one != broker_id and image.is_active(one)
        )
        self._changes: dict[tuple[bytes, int], PartitionChangeRecord] = {}

    def assign(self, request: AssignReplicasToDirsRequest) -> Decision[AssignReplicasToDirsResponse]:
        directories = [
            AssignReplicasToDirsResponseDirectoryData(
                id=directory.id,
                topics=[
                    AssignReplicasToDirsResponseTopicData(
                        topic_id=topic.topic_id,
                        partitions=[
                            AssignReplicasToDirsResponsePartitionData(
                                partition_index=one.partition_index,
                                error_code=self._outcome(directory.id, topic.topic_id, one.partition_index),
                            )
                            for one in topic.partitions
                        ],
                    )
                    for topic in directory.topics
                ],
            )
            for directory in request.directories
        ]
        return Decision(list(self._changes.values()), AssignReplicasToDirsResponse(directories=directories))

    def _outcome(self, directory: bytes, topic_id: bytes, index: int) -> ErrorCode:
        try:
            if directory == LOST:
                self._lose(topic_id, index)
            elif directory not in self._image.brokers[self._broker_id].log_dirs:
                return ErrorCode.LOG_DIR_NOT_FOUND
        except Refusal as refusal:
            return refusal.code
        return ErrorCode.NONE

    def _lose(self, topic_id: bytes, index: int) -> None:
        topic = self._image.topics_by_id.get(topic_id)
        if topic is None:
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id")
        if not 0 <= index < len(topic.partitions):
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the topic has no such partition")
        before = topic.partitions[index]
        if self._broker_id not in before.replicas:
            raise Refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the broker holds no replica")
        lost = frozenset((self._broker_id,))
        record = change(topic_id, index, before, Change(lossy=lost, wiped=lost), self._rules.of(topic))
        if record is None:
            return
        after = changed_partition(before, record)
        if self._broker_id in after.isr or not (after.isr or after.elr):
            raise Refusal(ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, "no other replica has all that counts")
        self._changes[topic_id, index] = record
