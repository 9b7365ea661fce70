"""Who may decide, and when: a quorum that the test moves, an image that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.image import MetadataChanges, MetadataImage
from streamkit.broker.controller.records import FeatureLevelRecord, RegisterBrokerRecord, encode_record
from streamkit.broker.server.controller.active_controller import (
    ActiveController,
    NotControllerError,
    NotLeaderError,
)
from streamkit.broker.server.controller.metadata_publisher import (
    MetadataPublisher,
    MetadataUnreadableError,
    OffsetTrimmedError,
)
from streamkit.runtime.os.clock import SystemClock
from streamkit.runtime.os.rng import SystemRng
from streamkit.runtime.os.spawn import TaskSpawn
from streamkit.telemetry.instruments import Registry


class KeptSnapshot(NamedTuple):
    end_offset: int
    values: Sequence[bytes]


class MovedQuorum:
    """A log of values, committed as far as the test says."""

    def __init__(self) -> None:
        self.epoch = 1
        self.leader_id: int | None = 1
        self.former_leader_id: int | None = None
        self.is_active = True
        self.high_watermark = 0
        self.values: list[bytes] = []
        self.on_committed: Callable[[], None] = lambda: None
        self.commits_at_once = True
        self.is_unreadable = False
        self.log_start_offset = 0
        self.snapshot = KeptSnapshot(0, [])
        self.wants_snapshot = False
        self.appends: list[asyncio.Future[int]] = []

    def append(self, values: Sequence[bytes]) -> asyncio.Future[int]:
        appended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        first = len(self.values)
        self.values += values
        self.appends.append(appended)
        if self.commits_at_once:
            self.commit()
            appended.set_result(first)
        return appended

    def commit(self) -> None:
        self.high_watermark = len(self.values)
        self.on_committed()

    async def committed(self, from_offset: int) -> AsyncIterator[tuple[int, bytes]]:
        if self.is_unreadable:
            raise MetadataUnreadableError("the disk is gone")
        if from_offset < self.log_start_offset:
            raise OffsetTrimmedError
        for offset in range(from_offset, self.high_watermark):
            await asyncio.sleep(0)
            yield offset, self.values[offset]

    async def load_snapshot(self) -> KeptSnapshot:
        return self.snapshot

    async def take_snapshot(self, end_offset: int, values: Sequence[bytes]) -> None:
        self.snapshot = KeptSnapshot(end_offset, values)
        self.wants_snapshot = False


class Node:
    def __init__(self, spawn: TaskSpawn) -> None:
        self.quorum = MovedQuorum()
        self.publisher = MetadataPublisher(self.quorum, spawn=spawn, metrics=Registry())
        self.quorum.on_committed = self.publisher.on_committed
        self.controller = ActiveController(
            self.quorum,
            self.publisher,
            BrokerConfig(),
            clock=SystemClock(),
            rng=SystemRng(),
            spawn=spawn,
            metrics=Registry(),
            cluster_id=lambda: "cluster",
        )

    def set_level(self, name: str, level: int) -> asyncio.Task[int]:
        """Ask for a decision on a feature's level; the reply is the level that it found."""

        def decide(controller: Controller) -> Decision[int]:
            before = controller.image.features.get(name, 0)
            return Decision([FeatureLevelRecord(name=name, feature_level=level)], before)

        return asyncio.ensure_future(self.controller.submit(decide))


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    failures: list[BaseException] = []
    spawn = TaskSpawn(lambda name, error: failures.append(error))
    made = Node(spawn)
    made.publisher.follow()
    await turns()
    try:
        yield made
    finally:
        await spawn.close()
    assert not failures, failures


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_node_that_does_not_lead_decides_nothing() -> None:
    async with node() as one:
        one.quorum.is_active = False
        assert not one.controller.is_active
        with pytest.raises(NotControllerError):
            await one.set_level("f", 1)
        assert one.quorum.values == []


async def test_a_new_leader_decides_only_once_it_has_replayed_what_its_predecessors_wrote() -> None:
    async with node() as one:
        one.quorum.values = [encode_record(FeatureLevelRecord(name="f", feature_level=7))]
        one.quorum.high_watermark = 1
        asked = one.set_level("f", 8)
        await turns()
        assert not asked.done()
        one.publisher.on_committed()
        assert await asked == 7


async def test_a_reply_waits_until_its_records_are_committed_and_the_subscribers_know() -> None:
    told: list[int] = []
    go_on = asyncio.Event()

    async def subscriber(image: MetadataImage, changes: MetadataChanges) -> None:
        await go_on.wait()
        told.append(image.features["f"])

    async with node() as one:
        await one.publisher.subscribe(subscriber)
        one.quorum.commits_at_once = False
        asked = one.set_level("f", 1)
        await turns()
        assert "f" not in one.publisher.image.features
        one.quorum.commit()
        one.quorum.appends[0].set_result(0)
        await turns()
        assert one.publisher.image.features["f"] == 1
        assert not asked.done()
        assert one.publisher.caught_up_to == 0
        go_on.set()
        await asked
        assert told == [1]


async def test_decisions_wait_for_each_other() -> None:
    async with node() as one:
        assert await asyncio.gather(*(one.set_level("f", level) for level in range(1, 6))) == [0, 1, 2, 3, 4]


async def test_leadership_lost_under_way_is_told_to_all_who_wait() -> None:
    async with node() as one:
        one.quorum.commits_at_once = False
        under_way, queued = one.set_level("f", 1), one.set_level("f", 2)
        await turns()
        one.quorum.is_active = False
        one.quorum.appends[0].set_exception(NotLeaderError("node 2 leads"))
        for asked in (under_way, queued):
            with pytest.raises(NotControllerError):
                await asked
        assert len(one.quorum.appends) == 1


async def test_leadership_lost_while_catching_up_decides_nothing() -> None:
    async with node() as one:
        one.quorum.values = [encode_record(FeatureLevelRecord(name="f", feature_level=7))]
        one.quorum.high_watermark = 1
        asked = one.set_level("f", 8)
        await turns()
        one.quorum.epoch = 2
        one.publisher.on_committed()
        with pytest.raises(NotControllerError, match="epoch 1 is over"):
            await asked


async def test_each_epoch_begins_with_a_controller_that_knows_the_image_only() -> None:
    seen: list[Controller] = []

    def decide(controller: Controller) -> Decision[None]:
        seen.append(controller)
        return Decision([], None)

    async with node() as one:
        await one.controller.submit(decide)
        await one.controller.submit(decide)
        one.quorum.epoch = 3
        await one.controller.submit(decide)
        assert seen[0] is seen[1] is not seen[2]


async def test_nobody_sees_half_of_what_was_committed_together() -> None:
    async with node() as one:
        records = [FeatureLevelRecord(name=f"f{n}", feature_level=1) for n in range(20)]
        one.quorum.values = [encode_record(record) for record in records]
        one.quorum.commit()
        while one.publisher.caught_up_to < 20:
            assert len(one.publisher.image.features) in (0, 20)
            await asyncio.sleep(0)


async def test_a_subscriber_begins_on_an_image_that_stands_still_and_misses_nothing() -> None:
    heard: list[dict[str, int]] = []

    async def begin(image: MetadataImage) -> None:
        before = dict(image.features)
        one.quorum.append([encode_record(FeatureLevelRecord(name="late", feature_level=1))])
        await turns()
        assert image.features == before

    async def subscriber(image: MetadataImage, changes: MetadataChanges) -> None:
        heard.append(dict(image.features))

    async with node() as one:
        await one.publisher.subscribe(subscriber, begin=begin)
        await one.publisher.reached(1)
        assert heard == [{"late": 1}]


# --- snapshots ---------------------------------------------------------------------------------------


def broker_record(broker_id: int) -> bytes:
    return encode_record(RegisterBrokerRecord(broker_id=broker_id, broker_epoch=broker_id))


async def test_a_log_that_cannot_be_read_any_more_ends_the_replaying_and_nothing_else() -> None:
    async with node() as one:
        one.quorum.is_unreadable = True
        one.quorum.values = [encode_record(FeatureLevelRecord(name="f", feature_level=7))]
        one.quorum.commit()
        await turns()
        assert one.publisher.caught_up_to == 0


async def test_a_node_that_missed_what_the_log_no_longer_has_goes_on_from_the_snapshot() -> None:
    heard: list[set[int]] = []

    async def subscriber(image: MetadataImage, changes: MetadataChanges) -> None:
        heard.append(changes.brokers)

    async with node() as one:
        one.quorum.append([broker_record(1), broker_record(2)])
        await one.publisher.subscribe(subscriber)
        await one.publisher.reached(2)
        image = one.publisher.image
        one.quorum.snapshot = KeptSnapshot(9, [broker_record(2), broker_record(3)])
        one.quorum.log_start_offset = 9
        one.quorum.values += [b""] * 7 + [broker_record(4)]
        one.quorum.commit()
        await one.publisher.reached(10)
        assert one.publisher.image is image
        assert (sorted(image.brokers), image.offset) == ([2, 3, 4], 9)
        assert heard[-2:] == [{1, 3}, {4}]


async def test_a_snapshot_is_made_of_what_is_replayed_once_the_log_has_grown_by_enough() -> None:
    async with node() as one:
        one.quorum.wants_snapshot = True
        one.quorum.append([broker_record(1), broker_record(2)])
        await one.publisher.reached(2)
        await turns()
        assert one.quorum.snapshot.end_offset == 2
        one.quorum.append([broker_record(3)])
        await one.publisher.reached(3)
        await turns()
        assert one.quorum.snapshot.end_offset == 2
