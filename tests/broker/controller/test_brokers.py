"""Brokers from registration to farewell: every answer, every record, and what becomes of their partitions."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.broker.controller.features import FEATURES
from streamkit.broker.controller.records import (
    METADATA_VERSION,
    NO_LEADER,
    RECOVERING,
    BrokerRegistrationChangeRecord,
    PartitionChangeRecord,
    RegisterBrokerRecord,
    UnregisterBrokerRecord,
)
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from streamkit.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest
from streamkit.protocol.messages.broker_registration import Feature
from streamkit.protocol.messages.controller_registration import ControllerRegistrationRequest, Listener
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest
from tests.broker.controller.cluster import NODE_ID, Cluster, state, topic

SESSION_MS = 4000


@pytest.fixture
def cluster() -> Cluster:
    """Three brokers; `orders` has partitions led by 1 and 2, min.insync.replicas is 2."""
    made = Cluster(brokers=3, min_insync_replicas="2")
    made.create(topic("orders", assignments={0: [1, 2, 3], 1: [2, 3, 1]}))
    return made


# --- register --------------------------------------------------------------------------------------


def test_a_new_log_begins_with_the_levels_a_reader_must_know() -> None:
    cluster = Cluster()
    assert cluster.image.features == {one.name: one.highest for one in FEATURES}
    assert cluster.image.metadata_version == METADATA_VERSION
    assert cluster.image.has_elr
    assert cluster.replayed().features == cluster.image.features


def test_a_brokers_epoch_is_the_offset_of_its_registration() -> None:
    cluster = Cluster(brokers=0)
    first = cluster.registered(1)
    assert first == len(FEATURES)
    assert cluster.registered(2, rack="r") == first + 1
    registered = cluster.image.brokers[2]
    assert (registered.epoch, registered.rack, registered.fenced) == (first + 1, "r", True)
    endpoint = registered.endpoint("PLAINTEXT")
    assert endpoint is not None and (endpoint.host, endpoint.port) == ("localhost", 9002)
    assert registered.endpoint("OTHER") is None


REFUSED: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "of another cluster": ({"cluster_id": "other"}, ErrorCode.INCONSISTENT_CLUSTER_ID),
    "without a directory": ({"log_dirs": []}, ErrorCode.INVALID_REGISTRATION),
    "with a directory twice": ({"log_dirs": [b"d" * 16] * 2}, ErrorCode.INVALID_REGISTRATION),
    "with a reserved directory id": ({"log_dirs": [bytes(15) + b"\x01"]}, ErrorCode.INVALID_REGISTRATION),
    "with another's directory": ({"log_dirs": [bytes([101]) * 16]}, ErrorCode.INVALID_REGISTRATION),
    "that cannot read the log": (
        {"features": [Feature(name="metadata.version", min_supported_version=1, max_supported_version=9)]},
        ErrorCode.UNSUPPORTED_VERSION,
    ),
    "that does not know a feature": (
        {"features": [Feature(name="metadata.version", min_supported_version=1, max_supported_version=99)]},
        ErrorCode.UNSUPPORTED_VERSION,
    ),
}


@pytest.mark.parametrize(("fields", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_broker_that_is_not_registered(fields: dict[str, Any], code: ErrorCode) -> None:
    cluster = Cluster(brokers=1)
    before = len(cluster.log)
    assert cluster.register(2, **fields).error_code == code
    assert len(cluster.log) == before


def test_another_process_of_a_live_broker_is_a_duplicate_until_the_session_ends(cluster: Cluster) -> None:
    refused = cluster.register(1, process=1)
    assert (refused.error_code, refused.broker_epoch) == (ErrorCode.DUPLICATE_BROKER_REGISTRATION, -1)
    cluster.clock.ms += SESSION_MS
    assert cluster.registered(1, process=1) > cluster.image.brokers[2].epoch


def test_the_successor_of_a_process_need_not_wait_for_its_session(cluster: Cluster) -> None:
    epoch = cluster.image.brokers[1].epoch
    moved = cluster.register(1, process=1, previous_epoch=epoch, directories=[b"n" * 16])
    assert moved.error_code == ErrorCode.DUPLICATE_BROKER_REGISTRATION
    assert cluster.register(1, process=1, previous_epoch=epoch - 1).error_code
    cluster.registered(1, process=1, previous_epoch=epoch)
    first, second = cluster.image.topics["orders"].partitions
    assert (first.leader, first.isr, first.leader_epoch) == (2, (2, 3), 1)
    assert (second.leader, second.isr, second.leader_epoch) == (2, (2, 3), 0)


def test_the_same_process_again_keeps_its_epoch_and_its_state(cluster: Cluster) -> None:
    before = cluster.image.brokers[1]
    assert cluster.registered(1, rack="moved") == before.epoch
    after = cluster.image.brokers[1]
    assert (after.epoch, after.fenced, after.rack) == (before.epoch, False, "moved")
    assert cluster.partition().leader == 1


def test_what_an_earlier_process_says_is_stale(cluster: Cluster) -> None:
    epoch = cluster.image.brokers[1].epoch
    cluster.registered(1, process=1, previous_epoch=epoch)
    assert cluster.beat(1, broker_epoch=epoch).error_code == ErrorCode.STALE_BROKER_EPOCH
    assert cluster.beat(9).error_code == ErrorCode.BROKER_ID_NOT_REGISTERED


def test_one_that_lost_nothing_stays_eligible(cluster: Cluster) -> None:
    epoch = cluster.image.brokers[1].epoch
    cluster.fence(2, 3)
    cluster.clock.ms += SESSION_MS
    cluster.registered(1, process=1, previous_epoch=epoch)
    assert (cluster.partition().isr, cluster.partition().elr) == ((), (3, 1))
    cluster.beat(1)
    assert (cluster.partition().leader, cluster.partition().isr) == (1, (1,))


def test_one_that_may_have_lost_bytes_is_not(cluster: Cluster) -> None:
    cluster.fence(2, 3)
    cluster.clock.ms += SESSION_MS
    cluster.registered(1, process=1)
    assert (cluster.partition().isr, cluster.partition().elr) == ((), (3,))
    cluster.beat(1)
    assert cluster.partition().leader == NO_LEADER
    cluster.beat(3)
    assert (cluster.partition().leader, cluster.partition().leader_recovery_state) == (3, 0)


def test_the_last_known_leader_leads_although_it_may_have_lost_bytes() -> None:
    cluster = Cluster(brokers=2)
    cluster.create(topic("orders", assignments={0: [1]}))
    cluster.clock.ms += SESSION_MS
    cluster.registered(1, process=1)
    assert (cluster.partition().leader, cluster.partition().last_known_elr) == (NO_LEADER, (1,))
    cluster.beat(1)
    after = cluster.partition()
    assert (after.leader, after.isr, after.leader_recovery_state) == (1, (1,), RECOVERING)
    assert after.leader_epoch == 2


def test_a_wiped_one_does_not() -> None:
    cluster = Cluster(brokers=2)
    cluster.create(topic("orders", assignments={0: [1]}))
    cluster.clock.ms += SESSION_MS
    cluster.registered(1, process=1, directories=[b"n" * 16])
    cluster.beat(1)
    assert (cluster.partition().leader, cluster.partition().last_known_elr) == (NO_LEADER, ())


# --- alone -----------------------------------------------------------------------------------------


def test_the_only_broker_in_the_controllers_process_is_live_at_once() -> None:
    cluster = Cluster(brokers=0, node_id="1")
    cluster.registered(1)
    assert cluster.image.is_active(1)
    cluster.create(topic("orders", 2))
    epoch = cluster.image.brokers[1].epoch
    cluster.become_active()
    before = len(cluster.log)
    cluster.registered(1, process=1, previous_epoch=epoch)
    assert len(cluster.log) == before + 1, "a restart costs one record, however many partitions there are"
    assert (cluster.partition().leader, cluster.partition().leader_epoch) == (1, 0)


def test_alone_and_maybe_lossy_every_partition_led_begins_a_leader_epoch() -> None:
    cluster = Cluster(brokers=0, node_id="1")
    cluster.registered(1)
    cluster.create(topic("orders", 2))
    cluster.registered(1, process=1)
    assert [(one.leader, one.leader_epoch) for one in cluster.image.topics["orders"].partitions] == [
        (1, 1)
    ] * 2
    assert cluster.changes.changed_partitions == [
        (cluster.image.topics["orders"], 0),
        (cluster.image.topics["orders"], 1),
    ]


def test_alone_it_goes_at_once_and_keeps_its_partitions() -> None:
    cluster = Cluster(brokers=0, node_id="1")
    cluster.registered(1)
    cluster.create(topic("orders", 2))
    before = len(cluster.log)
    assert cluster.beat(1, want_shut_down=True).should_shut_down
    assert len(cluster.log) == before


def test_with_a_second_broker_it_is_a_broker_like_any_other() -> None:
    cluster = Cluster(brokers=0, node_id="1")
    cluster.registered(1)
    cluster.start(2)
    cluster.create(topic("orders", assignments={0: [1, 2]}))
    epoch = cluster.image.brokers[1].epoch
    cluster.registered(1, process=1, previous_epoch=epoch)
    assert cluster.image.brokers[1].fenced
    assert cluster.partition().leader == 2


# --- heartbeats, sessions --------------------------------------------------------------------------


def test_a_broker_is_unfenced_once_it_has_replayed_its_registration() -> None:
    cluster = Cluster(brokers=0)
    epoch = cluster.registered(1)
    behind = cluster.beat(1, current_metadata_offset=epoch - 1)
    assert (behind.is_fenced, behind.is_caught_up) == (True, False)
    unwilling = cluster.beat(1, want_fence=True)
    assert (unwilling.is_fenced, unwilling.is_caught_up) == (True, True)
    there = cluster.beat(1, current_metadata_offset=epoch)
    assert (there.is_fenced, there.is_caught_up) == (False, True)
    assert cluster.image.is_active(1)
    before = len(cluster.log)
    assert not cluster.beat(1).is_fenced
    assert len(cluster.log) == before, "a heartbeat that changes nothing is not logged"


def test_a_silent_broker_is_fenced_one_at_a_time_the_first_silent_first(cluster: Cluster) -> None:
    cluster.clock.ms += 1000
    cluster.beat(2)
    cluster.beat(3)
    cluster.clock.ms += SESSION_MS - 1001
    assert cluster.apply(cluster.controller.fence_expired()) is None
    cluster.clock.ms += 1
    assert cluster.apply(cluster.controller.fence_expired()) == 1
    assert (cluster.partition().leader, cluster.partition().isr) == (2, (2, 3))
    assert cluster.apply(cluster.controller.fence_expired()) is None
    assert cluster.controller.sessions.next_expiry_ms(cluster.image) == cluster.clock.ms + 1000
    cluster.clock.ms += 1000
    assert [cluster.apply(cluster.controller.fence_expired()) for _ in range(3)] == [2, 3, None]
    assert cluster.partition().leader == NO_LEADER
    assert (cluster.partition().isr, cluster.partition().elr) == ((), (2, 3))
    assert cluster.partition().last_known_elr == (3,)
    assert cluster.controller.sessions.next_expiry_ms(cluster.image) is None


def test_a_fenced_broker_that_speaks_again_is_unfenced_but_leads_nothing_yet(cluster: Cluster) -> None:
    cluster.fence(1)
    assert not cluster.beat(1).is_fenced
    assert (cluster.partition().leader, cluster.partition().isr) == (2, (2, 3))


def test_a_new_controller_gives_everybody_a_fresh_session(cluster: Cluster) -> None:
    cluster.clock.ms += SESSION_MS - 1
    cluster.become_active()
    cluster.clock.ms += SESSION_MS - 1
    assert cluster.apply(cluster.controller.fence_expired()) is None
    cluster.clock.ms += 1
    assert cluster.apply(cluster.controller.fence_expired()) == 1


def test_but_the_broker_of_the_lost_leader_a_short_one(cluster: Cluster) -> None:
    cluster.become_active(lost_leader=2)
    cluster.clock.ms += 2000
    assert cluster.apply(cluster.controller.fence_expired()) == 2
    cluster.become_active(lost_leader=1)
    cluster.beat(1)
    cluster.clock.ms += 2000
    assert cluster.apply(cluster.controller.fence_expired()) is None


def test_a_broker_that_hung_up_has_two_heartbeats_to_speak_again(cluster: Cluster) -> None:
    cluster.controller.hung_up(1, cluster.image.brokers[1].epoch)
    cluster.controller.hung_up(2, cluster.image.brokers[2].epoch)
    cluster.clock.ms += 1999
    assert cluster.apply(cluster.controller.fence_expired()) is None
    cluster.beat(2)
    cluster.clock.ms += 1
    assert cluster.apply(cluster.controller.fence_expired()) == 1
    assert cluster.apply(cluster.controller.fence_expired()) is None


def test_a_broker_whose_process_has_ended_is_fenced_at_once(cluster: Cluster) -> None:
    cluster.controller.gone(1, cluster.image.brokers[1].epoch)
    assert cluster.apply(cluster.controller.fence_expired()) == 1
    assert cluster.apply(cluster.controller.fence_expired()) is None


def test_the_end_of_a_brokers_earlier_process_says_nothing_of_its_next(cluster: Cluster) -> None:
    earlier = cluster.image.brokers[1].epoch
    cluster.clock.ms += SESSION_MS
    cluster.start(1, process=1)
    cluster.controller.gone(1, earlier)
    cluster.beat(2)
    cluster.beat(3)
    assert cluster.apply(cluster.controller.fence_expired()) is None


def test_hanging_up_says_nothing_of_the_brokers_next_process(cluster: Cluster) -> None:
    earlier = cluster.image.brokers[1].epoch
    cluster.clock.ms += SESSION_MS - 1
    cluster.beat(2)
    cluster.beat(3)
    cluster.clock.ms += 1
    cluster.start(1, process=1)
    cluster.controller.hung_up(1, earlier)
    cluster.clock.ms += 2000
    assert cluster.apply(cluster.controller.fence_expired()) is None


def test_who_hangs_up_late_is_not_believed_for_longer(cluster: Cluster) -> None:
    cluster.clock.ms += SESSION_MS - 1
    cluster.controller.hung_up(1, cluster.image.brokers[1].epoch)
    cluster.clock.ms += 1
    assert cluster.apply(cluster.controller.fence_expired()) == 1


def test_the_controllers_own_broker_is_never_silent() -> None:
    cluster = Cluster(brokers=0, node_id="1")
    cluster.start(1)
    cluster.clock.ms += 10 * SESSION_MS
    assert cluster.apply(cluster.controller.fence_expired()) is None


# --- controlled shutdown ---------------------------------------------------------------------------


def test_leaders_move_before_a_broker_goes(cluster: Cluster) -> None:
    asked = cluster.beat(1, want_shut_down=True)
    assert (asked.should_shut_down, asked.is_fenced) == (False, False)
    broker, first = cluster.image.brokers[1], cluster.partition()
    assert (broker.in_controlled_shutdown, broker.is_active, broker.fenced) == (True, False, False)
    assert (first.leader, first.isr, first.leader_epoch) == (2, (2, 3), 1)
    moved_at = cluster.image.offset
    cluster.beat(2)
    assert not cluster.beat(1, want_shut_down=True).should_shut_down, "3 does not know yet who leads"
    cluster.beat(3, current_metadata_offset=moved_at)
    gone = cluster.beat(1, want_shut_down=True)
    assert (gone.should_shut_down, gone.is_fenced) == (True, True)
    assert cluster.image.brokers[1].fenced
    assert cluster.partition() == first
    cluster.start(1, process=1)
    assert cluster.image.is_active(1)


def test_one_that_began_to_go_and_was_missed_is_not_unfenced_again(cluster: Cluster) -> None:
    cluster.beat(1, want_shut_down=True)
    cluster.clock.ms += SESSION_MS
    cluster.beat(2)
    cluster.beat(3)
    assert cluster.apply(cluster.controller.fence_expired()) == 1
    assert cluster.beat(1).is_fenced
    assert cluster.beat(1, want_shut_down=True).should_shut_down
    cluster.start(1, process=1)


def test_a_broker_that_holds_nothing_goes_at_once() -> None:
    cluster = Cluster(brokers=2)
    assert cluster.beat(1, want_shut_down=True).should_shut_down
    assert cluster.image.brokers[1].fenced


def test_a_fenced_broker_goes_at_once(cluster: Cluster) -> None:
    cluster.fence(1)
    assert cluster.beat(1, want_shut_down=True).should_shut_down


def test_the_last_broker_goes_and_its_partitions_wait_for_it(cluster: Cluster) -> None:
    cluster.fence(2, 3)
    assert not cluster.beat(1, want_shut_down=True).should_shut_down
    assert cluster.beat(1, want_shut_down=True).should_shut_down
    assert (cluster.partition().leader, cluster.partition().last_known_elr) == (NO_LEADER, (1,))


def test_nothing_new_is_placed_on_a_broker_that_goes(cluster: Cluster) -> None:
    cluster.beat(1, want_shut_down=True)
    cluster.create(topic("later", 6, 2))
    assert all(1 not in one.replicas for one in cluster.image.topics["later"].partitions)
    cluster.create(topic("wide", 1, 3))
    assert cluster.partition("wide").isr == (2, 3)


# --- forget, controllers, producer ids -------------------------------------------------------------


def test_a_forgotten_broker_is_in_no_isr_and_no_elr(cluster: Cluster) -> None:
    cluster.fence(1, 2)
    assert cluster.partition().elr == (2,)
    for broker_id in (2, 3):
        request = UnregisterBrokerRequest(broker_id=broker_id)
        assert not cluster.apply(cluster.controller.unregister_broker(request)).error_code
    assert list(cluster.image.brokers) == [1]
    after = cluster.partition()
    assert (after.isr, after.elr, after.leader) == ((), (), NO_LEADER)
    again = cluster.apply(cluster.controller.unregister_broker(UnregisterBrokerRequest(broker_id=3)))
    assert again.error_code == ErrorCode.BROKER_ID_NOT_REGISTERED
    assert cluster.beat(3).error_code == ErrorCode.BROKER_ID_NOT_REGISTERED
    cluster.start(3, process=1)


def test_controllers_are_known_by_their_endpoints() -> None:
    cluster = Cluster(brokers=0)
    request = ControllerRegistrationRequest(
        controller_id=NODE_ID,
        incarnation_id=b"i" * 16,
        listeners=[Listener(name="CONTROLLER", host="h", port=9093)],
    )
    assert not cluster.apply(cluster.controller.register_controller(request)).error_code
    (endpoint,) = cluster.image.controllers[NODE_ID].endpoints
    assert (endpoint.name, endpoint.host, endpoint.port) == ("CONTROLLER", "h", 9093)
    assert state(cluster.replayed()) == state(cluster.image)


def test_producer_ids_are_given_out_once_and_to_nobody_who_is_gone(cluster: Cluster) -> None:
    def allocate(broker_id: int, epoch: int) -> AllocateProducerIdsResponse:
        request = AllocateProducerIdsRequest(broker_id=broker_id, broker_epoch=epoch)
        return cluster.apply(cluster.controller.allocate_producer_ids(request))

    epoch = cluster.image.brokers[1].epoch
    first, second = allocate(1, epoch), allocate(1, epoch)
    assert (first.producer_id_start, first.producer_id_len, second.producer_id_start) == (0, 1000, 1000)
    assert allocate(1, epoch - 1).error_code == ErrorCode.STALE_BROKER_EPOCH
    assert allocate(7, 1).error_code == ErrorCode.BROKER_ID_NOT_REGISTERED
    assert cluster.replayed().next_producer_id == 2000


# --- records ---------------------------------------------------------------------------------------


def test_partitions_change_before_the_broker_is_fenced_and_after_it_is_unfenced(cluster: Cluster) -> None:
    def heartbeat(**fields: Any) -> list[type]:
        broker = cluster.image.brokers[1]
        request = BrokerHeartbeatRequest(
            broker_id=1, broker_epoch=broker.epoch, current_metadata_offset=broker.epoch, **fields
        )
        decision = cluster.controller.heartbeat(request)
        cluster.apply(decision)
        return [type(record) for record in decision.records]

    moved = [PartitionChangeRecord, PartitionChangeRecord]
    assert heartbeat(want_fence=True) == [*moved, BrokerRegistrationChangeRecord]
    cluster.fence(2, 3)
    assert heartbeat() == [BrokerRegistrationChangeRecord]
    cluster.fence(1)
    decision = cluster.controller.unregister_broker(UnregisterBrokerRequest(broker_id=3))
    assert [type(record) for record in decision.records] == [*moved, UnregisterBrokerRecord]
    cluster.clock.ms += SESSION_MS
    epoch = cluster.registered(1, process=1, previous_epoch=-1)
    assert epoch == cluster.image.offset == cluster.image.brokers[1].epoch
    assert RegisterBrokerRecord.KEY == 0
