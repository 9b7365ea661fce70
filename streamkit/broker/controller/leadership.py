"""Leaders after brokers came and went, and elections that are asked for: ElectLeaders, balance, new settings.

A broker that goes leaves every ISR and every leadership. One that comes leads what has no leader and waits
for it. One that came back without some of its bytes is out of ISR and ELR besides, until it has caught up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import MAX_RECORDS_PER_DECISION, Decision, Refusal
from streamkit.broker.controller.image import MetadataImage, PartitionRegistration
from streamkit.broker.controller.partition_change import Change, Election, change
from streamkit.broker.controller.partition_rules import Configs, PartitionRules, changes_where, partitions
from streamkit.broker.controller.records import NO_LEADER, PartitionChangeRecord
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

PREFERRED: Final = 0
UNCLEAN: Final = 1

PERCENT: Final = 100


def without_broker(
    image: MetadataImage, config: BrokerConfig, broker_id: int, *, forgotten: bool = False
) -> list[PartitionChangeRecord]:
    """A broker is fenced, shuts down, or (`forgotten`) will not come back."""
    gone = frozenset((broker_id,)) if forgotten else frozenset()

    def is_affected(partition: PartitionRegistration) -> bool:
        return (
            broker_id in partition.isr
            or broker_id == partition.leader
            or (forgotten and broker_id in partition.elr)
        )

    def wanted(partition: PartitionRegistration) -> Change:
        return Change(isr=[one for one in partition.isr if one != broker_id], lossy=gone)

    rules = PartitionRules(image, config, may_lead=lambda one: one != broker_id and image.is_active(one))
    return changes_where(image, rules, is_affected, wanted)


def without_trust(
    image: MetadataImage, config: BrokerConfig, broker_id: int, *, wiped: bool
) -> list[PartitionChangeRecord]:
    """A broker came back and may have lost bytes: it has to catch up before it counts again (KIP-966).

    One that was wiped is not elected as a last known leader either; nobody is, unless asked to
    (ElectLeaders).
    """
    doubtful = frozenset((broker_id,))
    wanted = Change(lossy=doubtful, wiped=doubtful if wiped else frozenset())

    def is_affected(partition: PartitionRegistration) -> bool:
        return any(
            broker_id in members for members in (partition.isr, partition.elr, partition.last_known_elr)
        )

    rules = PartitionRules(image, config, may_lead=lambda one: one != broker_id and image.is_active(one))
    return changes_where(image, rules, is_affected, lambda _: wanted)


def with_broker(image: MetadataImage, config: BrokerConfig, broker_id: int) -> list[PartitionChangeRecord]:
    """A broker is unfenced: it may lead what nobody leads."""
    rules = PartitionRules(image, config, may_lead=lambda one: one == broker_id or image.is_active(one))
    return changes_where(image, rules, lambda partition: partition.leader == NO_LEADER, lambda _: Change())


def with_configs(
    image: MetadataImage, config: BrokerConfig, configs: Configs, topics: Iterable[str]
) -> list[PartitionChangeRecord]:
    """min.insync.replicas or unclean elections changed for these topics.

    Where the ISR is now large enough its leader may commit without the ELR, which is therefore given up in
    the same batch. (A larger min.insync.replicas leaves all as it is: the ELR still holds what was
    committed.)
    """
    names = frozenset(topics)
    rules = PartitionRules(image, config, configs=configs)
    records = []
    for topic, index, partition in partitions(image):
        if topic.name in names and (partition.elr or partition.leader == NO_LEADER):
            record = change(topic.topic_id, index, partition, Change(), rules.of(topic))
            if record is not None:
                records.append(record)
    return records


def leads_any(image: MetadataImage, broker_id: int) -> bool:
    return any(partition.leader == broker_id for _, _, partition in partitions(image))


class Elections:
    """Elections of one moment that somebody asks for, or that the balance of leaders asks for."""

    def __init__(self, image: MetadataImage, config: BrokerConfig) -> None:
        self._image = image
        self._config = config
        self._rules = PartitionRules(image, config)

    def elect(self, request: ElectLeadersRequest) -> Decision[ElectLeadersResponse]:
        """Partitions stand or fall alone; asked for all, those that need no election are left out."""
        if request.election_type not in (PREFERRED, UNCLEAN):
            return Decision(
                [], self._refused(request, f"There is no election of type {request.election_type}.")
            )
        records: list[PartitionChangeRecord] = []
        results = []
        for topic, indexes in self._asked_for(request):
            outcomes = []
            for index in indexes:
                try:
                    records.append(self._elected(topic, index, request.election_type))
                    outcomes.append(PartitionResult(partition_id=index, error_message=None))
                except Refusal as refusal:
                    if request.topic_partitions is None and refusal.code is ErrorCode.ELECTION_NOT_NEEDED:
                        continue
                    outcomes.append(
                        PartitionResult(
                            partition_id=index, error_code=refusal.code, error_message=refusal.message
                        )
                    )
            results.append(ReplicaElectionResult(topic=topic, partition_result=outcomes))
        return Decision(records, ElectLeadersResponse(replica_election_results=results))

    def _refused(self, request: ElectLeadersRequest, reason: str) -> ElectLeadersResponse:
        code = ErrorCode.INVALID_REQUEST
        return ElectLeadersResponse(
            error_code=code,
            replica_election_results=[
                ReplicaElectionResult(
                    topic=one.topic,
                    partition_result=[
                        PartitionResult(partition_id=index, error_code=code, error_message=reason)
                        for index in one.partitions
                    ],
                )
                for one in request.topic_partitions or ()
            ],
        )

    def _asked_for(self, request: ElectLeadersRequest) -> list[tuple[str, list[int]]]:
        if request.topic_partitions is not None:
            return [(one.topic, list(dict.fromkeys(one.partitions))) for one in request.topic_partitions]
        return [(topic.name, list(range(len(topic.partitions)))) for topic in self._image.topics.values()]

    def _elected(self, name: str, index: int, election_type: int) -> PartitionChangeRecord:
        partition = self._image.partition(name, index)
        if partition is None:
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}.")
        has_the_wanted = (
            partition.leader == partition.replicas[0]
            if election_type == PREFERRED
            else partition.leader != NO_LEADER
        )
        if has_the_wanted:
            raise Refusal(ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
        topic = self._image.topics[name]
        election = Election.PREFERRED if election_type == PREFERRED else Election.UNCLEAN
        record = change(topic.topic_id, index, partition, Change(), self._rules.of(topic, election))
        if record is None and election_type == PREFERRED:
            raise Refusal(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available.")
        if record is None:
            raise Refusal(
                ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
                "Eligible topic partition leaders are not available.",
            )
        return record

    def balance(self) -> Decision[int]:
        """Give leadership back to the preferred replicas of brokers that miss too much of it.

        The reply is the number of elections.
        """
        preferred: Counter[int] = Counter()
        missed: Counter[int] = Counter()
        for _, _, partition in partitions(self._image):
            preferred[partition.replicas[0]] += 1
            missed[partition.replicas[0]] += partition.leader != partition.replicas[0]
        allowed = self._config.leader_imbalance_per_broker_percentage
        short = {one for one in preferred if missed[one] * PERCENT > allowed * preferred[one]}
        records = []
        for topic, index, partition in partitions(self._image):
            first = partition.replicas[0]
            if first in short and partition.leader != first and first in partition.isr:
                record = change(
                    topic.topic_id, index, partition, Change(), self._rules.of(topic, Election.PREFERRED)
                )
                if record is not None:
                    records.append(record)
        return Decision(records[:MAX_RECORDS_PER_DECISION], len(records))


def imbalanced(image: MetadataImage) -> int:
    """Partitions with a leader that is not the preferred one."""
    return sum(
        partition.leader not in (NO_LEADER, partition.replicas[0]) for _, _, partition in partitions(image)
    )


def leaderless(image: MetadataImage) -> int:
    """Partitions that nobody leads."""
    return sum(partition.leader == NO_LEADER for _, _, partition in partitions(image))
