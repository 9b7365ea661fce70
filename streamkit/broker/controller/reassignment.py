"""Partitions moved: AlterPartitionReassignments (45), ListPartitionReassignments (46), KIP-455.

A move adds the new replicas to the present ones and names who comes (`adding`) and who goes (`removing`). It
ends, by whichever change brings it about, once all of the target are in the ISR; then those who go are
dropped
(`partition_change`). A cancelled move drops those who came. A move that only orders replicas, or drops some
while the others are in sync, is done at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import MAX_RECORDS_PER_DECISION, Decision, Refusal
from streamkit.broker.controller.image import MetadataImage, PartitionRegistration, TopicImage
from streamkit.broker.controller.partition_change import Change, change
from streamkit.broker.controller.partition_rules import PartitionRules
from streamkit.broker.controller.records import PartitionChangeRecord
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopic,
    ReassignableTopicResponse,
)
from streamkit.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)


class Reassignments:
    """The moves of one request, each of which stands or falls alone."""

    def __init__(self, image: MetadataImage, config: BrokerConfig) -> None:
        self._image = image
        self._rules = PartitionRules(image, config)
        self._records: list[PartitionChangeRecord] = []

    def alter(
        self, request: AlterPartitionReassignmentsRequest
    ) -> Decision[AlterPartitionReassignmentsResponse]:
        times = Counter(
            (topic.name, partition.partition_index)
            for topic in request.topics
            for partition in topic.partitions
        )
        if len(times) > MAX_RECORDS_PER_DECISION:
            return Decision(
                [],
                AlterPartitionReassignmentsResponse(
                    error_code=ErrorCode.POLICY_VIOLATION,
                    error_message=f"More than {MAX_RECORDS_PER_DECISION} partitions in one request.",
                ),
            )
        responses = [
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[
                    self._answer(topic, one, request, twice=times[topic.name, one.partition_index] > 1)
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        reply = AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=request.allow_replication_factor_change,
            error_message=None,
            responses=responses,
        )
        return Decision(self._records, reply)

    def _answer(
        self,
        topic: ReassignableTopic,
        asked: ReassignablePartition,
        request: AlterPartitionReassignmentsRequest,
        *,
        twice: bool,
    ) -> ReassignablePartitionResponse:
        code, message = ErrorCode.NONE, None
        try:
            if twice:
                raise Refusal(ErrorCode.INVALID_REQUEST, "The partition is named more than once.")
            record = self._moved(topic.name, asked, keep_factor=not request.allow_replication_factor_change)
            if record is not None:
                self._records.append(record)
        except Refusal as refusal:
            code, message = refusal.code, refusal.message
        return ReassignablePartitionResponse(
            partition_index=asked.partition_index, error_code=code, error_message=message
        )

    def _moved(
        self, name: str, asked: ReassignablePartition, *, keep_factor: bool
    ) -> PartitionChangeRecord | None:
        partition = self._image.partition(name, asked.partition_index)
        if partition is None:
            raise Refusal(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"Unable to find partition {name}:{asked.partition_index}.",
            )
        topic = self._image.topics[name]
        if asked.replicas is None:
            wanted = self._cancelled(topic, asked.partition_index, partition)
        else:
            self._check_target(asked.replicas)
            if keep_factor and len(asked.replicas) != len(original(partition)):
                raise Refusal(
                    ErrorCode.INVALID_REPLICATION_FACTOR,
                    f"The replication factor is changed from {len(original(partition))} to "
                    f"{len(asked.replicas)}.",
                )
            wanted = _towards(partition, asked.replicas)
        return change(topic.topic_id, asked.partition_index, partition, wanted, self._rules.of(topic))

    def _cancelled(self, topic: TopicImage, index: int, partition: PartitionRegistration) -> Change:
        if not partition.is_being_reassigned:
            raise Refusal(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.")
        replicas = original(partition)
        isr = [one for one in partition.isr if one in replicas]
        loses_all = not isr and not any(one in replicas for one in partition.elr)
        if loses_all and not self._rules.allows_unclean(topic):
            raise Refusal(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Unable to revert partition assignment for {topic.name}:{index} because it would require an "
                f"unclean leader election.",
            )
        return Change(isr=isr, replicas=replicas, adding=(), removing=())

    def _check_target(self, replicas: Sequence[int]) -> None:
        if not replicas:
            raise _bad_target("it includes an empty replica list")
        if len(set(replicas)) < len(replicas):
            raise _bad_target("it includes a broker more than once")
        for broker in replicas:
            if broker not in self._image.brokers:
                raise _bad_target(f"it includes broker {broker}, but no such broker is registered")


def original(partition: PartitionRegistration) -> list[int]:
    """The replicas without those that a reassignment is adding: where a cancelled one goes back to."""
    return [one for one in partition.replicas if one not in partition.adding_replicas]


def _towards(partition: PartitionRegistration, target: Sequence[int]) -> Change:
    """Replicas of another move that are not in this target go as well."""
    before = original(partition)
    removing = [one for one in partition.replicas if one not in target]
    return Change(
        replicas=[*target, *removing],
        adding=[one for one in target if one not in before],
        removing=removing,
    )


def list_reassignments(
    image: MetadataImage, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """What moves now, of all topics or of those asked for; what does not move or exist is left out."""
    if request.topics is None:
        asked: Iterable[tuple[str, Iterable[int]]] = (
            (topic.name, range(len(topic.partitions))) for topic in image.topics.values()
        )
    else:
        asked = ((topic.name, topic.partition_indexes) for topic in request.topics)
    ongoing = ((name, [*_ongoing(image, name, indexes)]) for name, indexes in asked)
    return ListPartitionReassignmentsResponse(
        error_message=None,
        topics=[OngoingTopicReassignment(name=name, partitions=moves) for name, moves in ongoing if moves],
    )


def _ongoing(
    image: MetadataImage, name: str, indexes: Iterable[int]
) -> Iterable[OngoingPartitionReassignment]:
    for index in indexes:
        partition = image.partition(name, index)
        if partition is not None and partition.is_being_reassigned:
            yield OngoingPartitionReassignment(
                partition_index=index,
                replicas=list(partition.replicas),
                adding_replicas=list(partition.adding_replicas),
                removing_replicas=list(partition.removing_replicas),
            )


def _bad_target(reason: str) -> Refusal:
    return Refusal(
        ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The manual partition assignment is refused: {reason}."
    )
