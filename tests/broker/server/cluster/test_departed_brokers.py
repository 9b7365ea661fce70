"""A broker that died is told to clients until they have heard who leads in its place."""

from __future__ import annotations

from streamkit.broker.server.cluster.departed_brokers import TOLD_FOR_MS, DepartedBrokers
from streamkit.broker.server.cluster.metadata_answers import MetadataAnswers, Question
from streamkit.protocol.codec import decode
from streamkit.protocol.messages.metadata import MetadataResponse
from tests.broker.controller.cluster import Cluster, topic

VERSION = 12


class Told:
    """What clients of a cluster of three are told."""

    def __init__(self) -> None:
        self.cluster = Cluster(brokers=3)
        self.cluster.create(topic("a", 1, 3))
        self.departed = DepartedBrokers(self.cluster.image, self.cluster.clock)
        self.departed.begin()
        self.answers = MetadataAnswers(
            self.cluster.image, cluster_id="c", leader_id=lambda: 2, departed=self.departed.still_told
        )

    def fence(self, broker_id: int) -> None:
        self.cluster.fence(broker_id)
        self.departed.changed(self.cluster.changes.brokers)

    def metadata(self) -> MetadataResponse:
        question = Question(
            version=VERSION,
            listener="PLAINTEXT",
            topics=("a",),
            topic_operations=False,
            cluster_operations=False,
        )
        return decode(MetadataResponse, self.answers.encoded(question), VERSION)

    @property
    def brokers(self) -> list[int]:
        return sorted(one.node_id for one in self.metadata().brokers)


def test_the_answer_that_names_new_leaders_still_names_the_broker_that_led() -> None:
    told = Told()
    told.fence(1)
    (partition,) = told.metadata().topics[0].partitions
    assert partition.leader_id in (2, 3)
    assert (sorted(partition.isr_nodes), partition.offline_replicas) == ([2, 3], [1])
    assert told.brokers == [1, 2, 3]


def test_it_is_told_no_more_after_a_moment() -> None:
    told = Told()
    told.fence(1)
    assert told.brokers == [1, 2, 3]
    told.cluster.clock.ms += TOLD_FOR_MS
    assert told.brokers == [2, 3]


def test_one_that_was_never_live_here_is_not_told() -> None:
    told = Told()
    told.cluster.registered(4)
    told.departed.changed(told.cluster.changes.brokers)
    assert told.brokers == [1, 2, 3]


def test_one_that_came_back_departs_anew() -> None:
    told = Told()
    told.fence(1)
    assert not told.cluster.beat(1).is_fenced
    told.departed.changed(told.cluster.changes.brokers)
    told.cluster.clock.ms += TOLD_FOR_MS
    assert told.brokers == [1, 2, 3]
    told.fence(1)
    assert told.brokers == [1, 2, 3]
    told.cluster.clock.ms += TOLD_FOR_MS
    assert told.brokers == [2, 3]
