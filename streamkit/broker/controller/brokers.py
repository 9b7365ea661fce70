"""Brokers from registration to farewell, and the producer ids that they are given (KIP-631, 730, 966).

    register ──► fenced ──heartbeat: has replayed its registration──► unfenced ──heartbeat: wants to go──►
    controlled shutdown ──leads nothing, and all others know it──► fenced, and free to go

A session that ends fences a broker wherever it stands. Its epoch is the offset of its registration, so a
later process always has a higher one, and what an earlier process still says is refused.

Another process takes a broker's place only if the earlier one is known to be gone: its session ended, or the
new one proves to be its successor by naming its epoch from the same log directories, which one process at a
time can hold. The epoch of its predecessor is also how a broker says that it lost nothing; otherwise it
leaves ISR and ELR.

A broker that shares the active controller's process and has no other broker beside it goes through none of
this: it is live from its registration on, as nobody could take over from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import Decision, Refusal
from streamkit.broker.controller.features import check_supports_finalized, founding_records
from streamkit.broker.controller.image import BrokerRegistration, FeatureRange, MetadataImage
from streamkit.broker.controller.leadership import leads_any, with_broker, without_broker, without_trust
from streamkit.broker.controller.partition_rules import partitions
from streamkit.broker.controller.records import (
    FENCE,
    IN_CONTROLLED_SHUTDOWN,
    UNFENCE,
    BrokerEndpoint,
    BrokerFeature,
    BrokerRegistrationChangeRecord,
    ControllerEndpoint,
    ControllerFeature,
    MetadataRecord,
    PartitionChangeRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RegisterControllerRecord,
    UnregisterBrokerRecord,
)
from streamkit.broker.controller.sessions import Sessions
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from streamkit.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from streamkit.protocol.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
)
from streamkit.protocol.messages.controller_registration import (
    ControllerRegistrationRequest,
    ControllerRegistrationResponse,
)
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

PRODUCER_ID_BLOCK_SIZE: Final = 1000
FIRST_RANDOM_DIRECTORY_ID: Final = (100).to_bytes(16)  # Kafka reserves the ids below


def stale_reason(image: MetadataImage, broker_id: int, epoch: int) -> ErrorCode:
    """Why a request in this broker epoch is refused; NONE if it is not."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        return ErrorCode.BROKER_ID_NOT_REGISTERED
    return ErrorCode.NONE if broker.epoch == epoch else ErrorCode.STALE_BROKER_EPOCH


class Brokers(msgspec.Struct, frozen=True, kw_only=True):
    """What may become of brokers at one moment; notes in `sessions` whom it has heard."""

    image: MetadataImage
    config: BrokerConfig
    sessions: Sessions
    cluster_id: str
    now_ms: int

    # --- register --------------------------------------------------------------------------------

    def register(self, request: BrokerRegistrationRequest) -> Decision[BrokerRegistrationResponse]:
        try:
            self._check(request)
        except Refusal as refusal:
            return Decision([], BrokerRegistrationResponse(error_code=refusal.code))
        existing = self.image.brokers.get(request.broker_id)
        if existing is not None and existing.incarnation_id == request.incarnation_id:
            return self._amended(request, existing)
        alone = self._is_alone(request.broker_id)
        records = [*founding_records(self.image)]
        if existing is not None:
            records += self._farewell(existing, request, alone=alone)
        epoch = self.image.offset + 1 + len(records)
        records.append(_registration(request, epoch, fenced=not alone))
        self.sessions.restart(request.broker_id, self.now_ms)
        return Decision(records, BrokerRegistrationResponse(broker_epoch=epoch))

    def _check(self, request: BrokerRegistrationRequest) -> None:
        if request.cluster_id != self.cluster_id:
            raise Refusal(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"Expected cluster ID {self.cluster_id}, but got cluster ID {request.cluster_id}.",
            )
        self._check_directories(request.broker_id, request.log_dirs)
        check_supports_finalized(
            self.image,
            [
                FeatureRange(
                    name=one.name, lowest=one.min_supported_version, highest=one.max_supported_version
                )
                for one in request.features
            ],
        )
        existing = self.image.brokers.get(request.broker_id)
        if existing is not None and self._is_duplicate(existing, request):
            raise Refusal(
                ErrorCode.DUPLICATE_BROKER_REGISTRATION, "Another broker is registered with that broker id."
            )

    def _check_directories(self, broker_id: int, directories: Sequence[bytes]) -> None:
        if not directories:
            raise Refusal(ErrorCode.INVALID_REGISTRATION, "No directories specified in request.")
        if len(set(directories)) < len(directories):
            raise Refusal(ErrorCode.INVALID_REGISTRATION, "Duplicate directory ID in request.")
        if any(one < FIRST_RANDOM_DIRECTORY_ID for one in directories):
            raise Refusal(ErrorCode.INVALID_REGISTRATION, "Reserved directory ID in request.")
        for broker in self.image.brokers.values():
            if broker.broker_id != broker_id and not set(directories).isdisjoint(broker.log_dirs):
                raise Refusal(
                    ErrorCode.INVALID_REGISTRATION,
                    f"Broker {broker.broker_id} is already registered with one of these directories.",
                )

    def _is_duplicate(self, existing: BrokerRegistration, request: BrokerRegistrationRequest) -> bool:
        return (
            existing.incarnation_id != request.incarnation_id
            and self.sessions.is_valid(existing.broker_id, self.now_ms)
            and not _is_successor(existing, request)
            and existing.broker_id != self.config.node_id  # the process that ran here before is this one
        )

    def _is_alone(self, broker_id: int) -> bool:
        """Whether this is the only broker, in the active controller's own process, and none waits for it."""
        if broker_id != self.config.node_id or any(one != broker_id for one in self.image.brokers):
            return False
        broker = self.image.brokers.get(broker_id)
        return not broker.fenced if broker is not None else self.image.partition_count == 0

    def _amended(
        self, request: BrokerRegistrationRequest, existing: BrokerRegistration
    ) -> Decision[BrokerRegistrationResponse]:
        """The same process again: it missed the answer, or something about it is different now."""
        record = _registration(
            request,
            existing.epoch,
            fenced=existing.fenced,
            in_controlled_shutdown=existing.in_controlled_shutdown,
        )
        self.sessions.touch(request.broker_id, self.now_ms)
        return Decision([record], BrokerRegistrationResponse(broker_epoch=existing.epoch))

    def _farewell(
        self, existing: BrokerRegistration, request: BrokerRegistrationRequest, *, alone: bool
    ) -> Sequence[MetadataRecord]:
        """What the end of the earlier process means for its partitions, if nobody noticed it yet."""
        broker_id, lost_nothing = existing.broker_id, request.previous_broker_epoch == existing.epoch
        if alone:
            return () if lost_nothing else self._new_leader_epochs(broker_id)
        if lost_nothing or not self.image.has_elr:
            return without_broker(self.image, self.config, broker_id)
        wiped = set(existing.log_dirs).isdisjoint(request.log_dirs)
        return without_trust(self.image, self.config, broker_id, wiped=wiped)

    def _new_leader_epochs(self, leader: int) -> list[PartitionChangeRecord]:
        """Consumers notice by the epoch that offsets may have been given out twice (KIP-320)."""
        return [
            PartitionChangeRecord(topic_id=topic.topic_id, partition_id=index, leader=leader)
            for topic, index, partition in partitions(self.image)
            if partition.leader == leader
        ]

    # --- heartbeat -------------------------------------------------------------------------------

    def heartbeat(self, request: BrokerHeartbeatRequest) -> Decision[BrokerHeartbeatResponse]:
        broker_id = request.broker_id
        stale = stale_reason(self.image, broker_id, request.broker_epoch)
        if stale is not ErrorCode.NONE:
            return Decision([], BrokerHeartbeatResponse(error_code=stale))
        self.sessions.touch(broker_id, self.now_ms, request.current_metadata_offset)
        broker = self.image.brokers[broker_id]
        has_replayed_registration = request.current_metadata_offset >= broker.epoch
        if request.want_shut_down:
            return self._shutting_down(broker, request)
        if request.want_fence:
            return self._answer(self._fenced(broker), is_fenced=True, is_caught_up=has_replayed_registration)
        # A process that began to go does not come back: only the next one's registration ends its shutdown.
        if broker.fenced and has_replayed_registration and not broker.in_controlled_shutdown:
            records: list[MetadataRecord] = [_change(broker, fenced=UNFENCE)]
            records += with_broker(self.image, self.config, broker_id)
            return self._answer(records, is_fenced=False, is_caught_up=True)
        return self._answer([], is_fenced=broker.fenced, is_caught_up=has_replayed_registration)

    def _shutting_down(
        self, broker: BrokerRegistration, request: BrokerHeartbeatRequest
    ) -> Decision[BrokerHeartbeatResponse]:
        broker_id = broker.broker_id
        if broker.fenced or request.want_fence or self._is_alone(broker_id):
            return self._let_go(broker)
        if not broker.in_controlled_shutdown:
            moved = without_broker(self.image, self.config, broker_id)
            if not moved:
                return self._let_go(broker)
            records: list[MetadataRecord] = [
                _change(broker, in_controlled_shutdown=IN_CONTROLLED_SHUTDOWN),
                *moved,
            ]
            self.sessions.leaders_moved(broker_id, self.image.offset + len(records))
            return self._answer(records, is_fenced=False, is_caught_up=True)
        others = (one.broker_id for one in self.image.brokers.values() if one.is_active)
        if leads_any(self.image, broker_id) or not self.sessions.may_shut_down(broker_id, others):
            return self._answer([], is_fenced=False, is_caught_up=True)
        return self._let_go(broker)

    def _let_go(self, broker: BrokerRegistration) -> Decision[BrokerHeartbeatResponse]:
        records = () if self._is_alone(broker.broker_id) else self._fenced(broker)
        self.sessions.end(broker.broker_id)
        return self._answer(records, is_fenced=True, is_caught_up=True, should_shut_down=True)

    def _answer(
        self,
        records: Sequence[MetadataRecord],
        *,
        is_fenced: bool,
        is_caught_up: bool,
        should_shut_down: bool = False,
    ) -> Decision[BrokerHeartbeatResponse]:
        return Decision(
            records,
            BrokerHeartbeatResponse(
                is_caught_up=is_caught_up, is_fenced=is_fenced, should_shut_down=should_shut_down
            ),
        )

    # --- fence, forget ---------------------------------------------------------------------------

    def fence_expired(self) -> Decision[int | None]:
        """Fence the broker whose session ended first; the reply names it.

        One at a time, so that the next is judged by what the first has become.
        """
        broker = self.sessions.expired(self.image, self.now_ms)
        if broker is None:
            return Decision([], None)
        return Decision(self._fenced(broker), broker.broker_id)

    def _fenced(self, broker: BrokerRegistration) -> list[MetadataRecord]:
        if broker.fenced:
            return []
        return [
            *without_broker(self.image, self.config, broker.broker_id),
            _change(broker, fenced=FENCE),
        ]

    def unregister(self, request: UnregisterBrokerRequest) -> Decision[UnregisterBrokerResponse]:
        broker = self.image.brokers.get(request.broker_id)
        if broker is None:
            return Decision(
                [],
                UnregisterBrokerResponse(
                    error_code=ErrorCode.BROKER_ID_NOT_REGISTERED,
                    error_message=f"Broker ID {request.broker_id} is not currently registered",
                ),
            )
        records: list[MetadataRecord] = [
            *without_broker(self.image, self.config, broker.broker_id, forgotten=True)
        ]
        records.append(UnregisterBrokerRecord(broker_id=broker.broker_id, broker_epoch=broker.epoch))
        self.sessions.end(broker.broker_id)
        return Decision(records, UnregisterBrokerResponse(error_message=None))

    # --- controllers, producer ids ---------------------------------------------------------------

    def register_controller(
        self, request: ControllerRegistrationRequest
    ) -> Decision[ControllerRegistrationResponse]:
        record = RegisterControllerRecord(
            controller_id=request.controller_id,
            incarnation_id=request.incarnation_id,
            end_points=[
                ControllerEndpoint(name=one.name, host=one.host, port=one.port) for one in request.listeners
            ],
            features=[
                ControllerFeature(
                    name=one.name,
                    min_supported_version=one.min_supported_version,
                    max_supported_version=one.max_supported_version,
                )
                for one in request.features
            ],
        )
        return Decision(
            [*founding_records(self.image), record], ControllerRegistrationResponse(error_message=None)
        )

    def allocate_producer_ids(
        self, request: AllocateProducerIdsRequest
    ) -> Decision[AllocateProducerIdsResponse]:
        """The next block of ids, for one broker and nobody else, ever."""
        stale = stale_reason(self.image, request.broker_id, request.broker_epoch)
        if stale is not ErrorCode.NONE:
            return Decision([], AllocateProducerIdsResponse(error_code=stale))
        first = self.image.next_producer_id
        record = ProducerIdsRecord(
            broker_id=request.broker_id,
            broker_epoch=request.broker_epoch,
            next_producer_id=first + PRODUCER_ID_BLOCK_SIZE,
        )
        return Decision(
            [record],
            AllocateProducerIdsResponse(producer_id_start=first, producer_id_len=PRODUCER_ID_BLOCK_SIZE),
        )


def _is_successor(existing: BrokerRegistration, request: BrokerRegistrationRequest) -> bool:
    return request.previous_broker_epoch == existing.epoch and set(request.log_dirs) == set(existing.log_dirs)


def _registration(
    request: BrokerRegistrationRequest, epoch: int, *, fenced: bool, in_controlled_shutdown: bool = False
) -> RegisterBrokerRecord:
    return RegisterBrokerRecord(
        broker_id=request.broker_id,
        incarnation_id=request.incarnation_id,
        broker_epoch=epoch,
        end_points=[BrokerEndpoint(name=one.name, host=one.host, port=one.port) for one in request.listeners],
        features=[
            BrokerFeature(
                name=one.name,
                min_supported_version=one.min_supported_version,
                max_supported_version=one.max_supported_version,
            )
            for one in request.features
        ],
        rack=request.rack,
        fenced=fenced,
        in_controlled_shutdown=in_controlled_shutdown,
        log_dirs=list(request.log_dirs),
    )


def _change(
    broker: BrokerRegistration, *, fenced: int = 0, in_controlled_shutdown: int = 0
) -> BrokerRegistrationChangeRecord:
    return BrokerRegistrationChangeRecord(
        broker_id=broker.broker_id,
        broker_epoch=broker.epoch,
        fenced=fenced,
        in_controlled_shutdown=in_controlled_shutdown,
    )
