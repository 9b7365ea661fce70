"""Numbers of partitions, and what is missing: one test for each rule."""

from __future__ import annotations

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.group.streams.internal_topics import (
    ConfiguredTopology,
    InternalTopic,
    StatusCode,
    configure,
)
from streamkit.broker.coordination.group.streams.topology import Topology, check, check_whole, said
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import streams_group_heartbeat as messages
from streamkit.protocol.messages.streams_group_heartbeat import (
    CopartitionGroup,
    KeyValue,
    Subtopology,
    TopicInfo,
)
from tests.broker.coordination.group.harness import FakeCluster
from tests.broker.coordination.group.streams.members import CHANGELOG, INPUT, REPARTITION, WORD_COUNT


def infos(*names: str, partitions: int = 0) -> list[TopicInfo]:
    return [TopicInfo(name=name, partitions=partitions) for name in names]


def configured(subtopologies: list[Subtopology], **existing: int) -> ConfiguredTopology:
    topology = messages.Topology(epoch=0, subtopologies=subtopologies)
    check(topology)
    cluster = FakeCluster(BrokerConfig())
    for name, partitions in existing.items():
        cluster.make(name, partitions)
    return configure(Topology(said(topology)), cluster)


def check_both(topology: messages.Topology) -> None:
    check(topology)
    check_whole(said(topology))


def partitions(found: ConfiguredTopology) -> dict[str, int]:
    return {
        topic.name: topic.partitions
        for one in found.subtopologies.values()
        for topic in (*one.repartition_sources, *one.changelogs)
    }


def problem(found: ConfiguredTopology) -> StatusCode:
    assert found.problem is not None
    return found.problem.status


def test_internal_topics_have_as_many_partitions_as_what_leads_to_them() -> None:
    found = configured(WORD_COUNT.subtopologies, **{INPUT: 4})
    assert partitions(found) == {REPARTITION: 4, CHANGELOG: 4}
    assert [topic.name for topic in found.missing] == [CHANGELOG, REPARTITION]
    assert problem(found) is StatusCode.MISSING_INTERNAL_TOPICS and not found.is_ready
    assert [one.tasks for one in found.subtopologies.values()] == [4, 4]
    assert [one.is_stateful for one in found.subtopologies.values()] == [False, True]


def test_a_topology_is_ready_when_everything_is_there() -> None:
    found = configured(WORD_COUNT.subtopologies, **{INPUT: 4, REPARTITION: 4, CHANGELOG: 4})
    assert found.is_ready and found.missing == ()


def test_missing_source_topics_are_named_three_at_most() -> None:
    found = configured(
        [Subtopology(subtopology_id="0", source_topics=["d", "c", "b", "a", "there"])], there=1
    )
    assert problem(found) is StatusCode.MISSING_SOURCE_TOPICS
    assert found.problem is not None and "a, b, c and 1 additional topics" in found.problem.detail
    assert found.subtopologies == {}


def test_a_topic_that_exists_must_have_its_number_of_partitions() -> None:
    found = configured(WORD_COUNT.subtopologies, **{INPUT: 4, CHANGELOG: 3})
    assert problem(found) is StatusCode.INCORRECTLY_PARTITIONED_TOPICS
    assert found.problem is not None and "expected 4, found 3" in found.problem.detail


def test_what_the_developer_says_of_a_topic_goes_with_it() -> None:
    configs = [KeyValue(key="cleanup.policy", value="delete")]
    wanted = TopicInfo(name="r", partitions=7, replication_factor=2, topic_configs=configs)
    found = configured(
        [
            Subtopology(subtopology_id="0", source_topics=["in"], repartition_sink_topics=["r"]),
            Subtopology(subtopology_id="1", repartition_source_topics=[wanted]),
        ],
        **{"in": 2},
    )
    assert found.missing == (InternalTopic("r", 7, 2, (("cleanup.policy", "delete"),)),)


def test_a_repartition_topic_has_the_most_of_what_its_writer_reads() -> None:
    found = configured(
        [
            Subtopology(subtopology_id="0", source_topics=["a", "b"], repartition_sink_topics=["r1"]),
            Subtopology(
                subtopology_id="1",
                source_topics=["c"],
                repartition_source_topics=infos("r1"),
                repartition_sink_topics=["r2"],
            ),
            Subtopology(subtopology_id="2", repartition_source_topics=infos("r2")),
        ],
        a=2,
        b=5,
        c=1,
    )
    assert partitions(found) == {"r1": 5, "r2": 5}


def test_writers_may_be_known_after_their_readers() -> None:
    found = configured(
        [
            Subtopology(
                subtopology_id="0", repartition_source_topics=infos("r1"), repartition_sink_topics=["r2"]
            ),
            Subtopology(subtopology_id="1", repartition_source_topics=infos("r2")),
            Subtopology(subtopology_id="2", source_topics=["a"], repartition_sink_topics=["r1"]),
        ],
        a=3,
    )
    assert partitions(found) == {"r1": 3, "r2": 3}


@pytest.mark.parametrize(
    "subtopologies",
    [
        [
            Subtopology(
                subtopology_id="0", repartition_source_topics=infos("r"), repartition_sink_topics=["r"]
            )
        ],
        [Subtopology(subtopology_id="0", source_topics=["a"], repartition_source_topics=infos("r"))],
    ],
    ids=["a loop", "never written"],
)
def test_a_topology_whose_numbers_cannot_be_known_is_refused(subtopologies: list[Subtopology]) -> None:
    with pytest.raises(Refusal) as refused:
        configured(subtopologies, a=1)
    assert refused.value.code == ErrorCode.STREAMS_INVALID_TOPOLOGY


class TestCopartitionGroups:
    def joined(self, *sources: str, repartition: list[TopicInfo], **existing: int) -> ConfiguredTopology:
        group = CopartitionGroup(
            source_topics=list(range(len(sources))), repartition_source_topics=list(range(len(repartition)))
        )
        reader = Subtopology(
            subtopology_id="1",
            source_topics=list(sources),
            repartition_source_topics=repartition,
            copartition_groups=[group],
        )
        sinks = [topic.name for topic in repartition]
        writer = Subtopology(subtopology_id="0", source_topics=["w"], repartition_sink_topics=sinks)
        return configured([writer, reader], w=2, **existing)

    def test_source_topics_must_be_equal(self) -> None:
        found = self.joined("a", "b", repartition=[], a=2, b=3)
        assert problem(found) is StatusCode.INCORRECTLY_PARTITIONED_TOPICS
        assert found.problem is not None and "[{a=2, b=3}]" in found.problem.detail

    def test_repartition_topics_follow_the_source_topics(self) -> None:
        found = self.joined("a", repartition=infos("r"), a=6)
        assert partitions(found) == {"r": 6}

    def test_a_number_that_was_said_must_be_the_source_topics(self) -> None:
        found = self.joined("a", repartition=infos("r", partitions=5), a=6)
        assert problem(found) is StatusCode.INCORRECTLY_PARTITIONED_TOPICS

    def test_repartition_topics_alone_follow_the_number_that_was_said(self) -> None:
        found = self.joined(repartition=[*infos("r", partitions=5), *infos("s")])
        assert partitions(found) == {"r": 5, "s": 5}

    def test_numbers_that_were_said_must_be_equal(self) -> None:
        found = self.joined(repartition=[*infos("r", partitions=5), *infos("s", partitions=4)])
        assert problem(found) is StatusCode.INCORRECTLY_PARTITIONED_TOPICS

    def test_otherwise_the_highest_is_everybodys(self) -> None:
        assert partitions(self.joined(repartition=infos("r", "s"))) == {"r": 2, "s": 2}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"source_topic_regex": ["a.*"]}, ErrorCode.INVALID_REQUEST),
        ({"source_topics": []}, ErrorCode.STREAMS_INVALID_TOPOLOGY),
        ({"state_changelog_topics": infos("c", partitions=1)}, ErrorCode.STREAMS_INVALID_TOPOLOGY),
        ({"copartition_groups": [CopartitionGroup(source_topics=[1])]}, ErrorCode.INVALID_REQUEST),
        ({"copartition_groups": [CopartitionGroup(source_topics=[-1])]}, ErrorCode.INVALID_REQUEST),
        (
            {"copartition_groups": [CopartitionGroup(repartition_source_topics=[0])]},
            ErrorCode.INVALID_REQUEST,
        ),
    ],
)
def test_a_topology_that_nobody_could_run_is_refused(change: dict[str, object], code: ErrorCode) -> None:
    one = Subtopology(**{"subtopology_id": "0", "source_topics": ["a"], **change})  # type: ignore[arg-type]
    with pytest.raises(Refusal) as refused:
        check_both(messages.Topology(subtopologies=[one]))
    assert refused.value.code == code


def test_a_subtopology_is_there_once() -> None:
    one = Subtopology(subtopology_id="0", source_topics=["a"])
    with pytest.raises(Refusal, match="twice"):
        check_both(messages.Topology(subtopologies=[one, one]))
