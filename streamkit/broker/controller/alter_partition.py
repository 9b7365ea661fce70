"""AlterPartition (56): the leader of a partition reports another ISR, and the controller makes it true.

Only the present leader may, in its present leader epoch, from the present partition epoch: what it knew when
it asked must still hold. Whoever is fenced, shuts down, or was another process when the leader saw it catch
up is not let in (KIP-841, 903). The ISR that completes a reassignment may cost the asker its leadership.
"""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import Decision, Refusal
from streamkit.broker.controller.image import (
    MetadataImage,
    PartitionRegistration,
    TopicImage,
    changed_partition,
)
from streamkit.broker.controller.partition_change import Change, change
from streamkit.broker.controller.partition_rules import PartitionRules
from streamkit.broker.controller.records import RECOVERED, RECOVERING, PartitionChangeRecord
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
    BrokerState,
)

ANY_EPOCH = -1


class PartitionAlterations:
    """The answers of one moment to one leader, whose broker epoch has been checked."""

    def __init__(self, image: MetadataImage, config: BrokerConfig) -> None:
        self._image = image
        self._rules = PartitionRules(image, config)
        self._records: list[PartitionChangeRecord] = []
        self._asked: set[tuple[bytes, int]] = set()

    def alter(self, request: AlterPartitionRequest) -> Decision[AlterPartitionResponse]:
        topics = [
            AlterPartitionResponseTopicData(
                topic_id=topic.topic_id,
                partitions=[
                    self._answer(request.broker_id, topic.topic_id, partition)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return Decision(self._records, AlterPartitionResponse(topics=topics))

    def _answer(
        self, leader: int, topic_id: bytes, asked: AlterPartitionRequestPartitionData
    ) -> AlterPartitionResponsePartitionData:
        try:
            after = self._altered(leader, topic_id, asked)
        except Refusal as refusal:
            return AlterPartitionResponsePartitionData(
                partition_index=asked.partition_index, error_code=refusal.code
            )
        return AlterPartitionResponsePartitionData(
            partition_index=asked.partition_index,
            leader_id=after.leader,
            leader_epoch=after.leader_epoch,
            isr=list(after.isr),
            leader_recovery_state=after.leader_recovery_state,
            partition_epoch=after.partition_epoch,
        )

    def _altered(
        self, leader: int, topic_id: bytes, asked: AlterPartitionRequestPartitionData
    ) -> PartitionRegistration:
        topic = self._image.topics_by_id.get(topic_id)
        if topic is None:
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id")
        before = self._partition(topic, asked.partition_index)
        isr = asked.new_isr_with_epochs or [BrokerState(broker_id=one) for one in asked.new_isr]
        _check_epochs(leader, before, asked)
        _check_isr(before, [one.broker_id for one in isr], asked.leader_recovery_state)
        if not all(map(self._is_eligible, isr)):
            raise Refusal(ErrorCode.INELIGIBLE_REPLICA, "a replica is fenced, shuts down, or was restarted")
        record = change(
            topic_id,
            asked.partition_index,
            before,
            Change(isr=[one.broker_id for one in isr], recovery_state=asked.leader_recovery_state),
            self._rules.of(topic),
        )
        if record is None:
            return before
        self._records.append(record)
        after = changed_partition(before, record)
        if after.leader != leader:
            raise Refusal(ErrorCode.NEW_LEADER_ELECTED, "the asker leads no longer")
        return after

    def _partition(self, topic: TopicImage, index: int) -> PartitionRegistration:
        if not 0 <= index < len(topic.partitions):
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the topic has no such partition")
        if (topic.topic_id, index) in self._asked:
            raise Refusal(ErrorCode.INVALID_REQUEST, "the request names the partition twice")
        self._asked.add((topic.topic_id, index))
        return topic.partitions[index]

    def _is_eligible(self, replica: BrokerState) -> bool:
        broker = self._image.brokers.get(replica.broker_id)
        return broker is not None and broker.is_active and replica.broker_epoch in (ANY_EPOCH, broker.epoch)


def _check_epochs(
    leader: int, partition: PartitionRegistration, asked: AlterPartitionRequestPartitionData
) -> None:
    newer = asked.leader_epoch > partition.leader_epoch or asked.partition_epoch > partition.partition_epoch
    if newer:
        # The leader has learnt from a later controller what this one does not know yet.
        raise Refusal(ErrorCode.NOT_CONTROLLER, "the epochs are newer than this controller")
    if asked.leader_epoch < partition.leader_epoch:
        raise Refusal(ErrorCode.FENCED_LEADER_EPOCH, "the leader epoch has passed")
    if leader != partition.leader:
        raise Refusal(ErrorCode.INVALID_REQUEST, "the asker does not lead")
    if asked.partition_epoch < partition.partition_epoch:
        raise Refusal(ErrorCode.INVALID_UPDATE_VERSION, "the partition epoch has passed")


def _check_isr(partition: PartitionRegistration, isr: list[int], recovery_state: int) -> None:
    if len(set(isr)) < len(isr) or not set(isr) <= set(partition.replicas) or partition.leader not in isr:
        raise Refusal(ErrorCode.INVALID_REQUEST, "the ISR is not one of these replicas with their leader")
    if recovery_state not in (RECOVERED, RECOVERING):
        raise Refusal(ErrorCode.INVALID_REQUEST, "no such recovery state")
    if recovery_state == RECOVERING and (len(isr) > 1 or partition.leader_recovery_state == RECOVERED):
        raise Refusal(ErrorCode.INVALID_REQUEST, "a leader recovers alone, and only once")
