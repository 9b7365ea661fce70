"""The active controller: every change of the cluster's metadata is decided here.

A decision is made from the image as it stands, which must be that of the end of the log; it becomes true
when its records are replayed, which the driver does once they are durable. The rules live beside this file,
by what they decide on: `brokers`, `leadership`, `alter_partition`, `reassignment`, `topic_decisions`,
`config_decisions`, `features`, `placement`.

What is not in the log is in `sessions`: who was heard from lately. So a controller is made anew each time
that its node begins to decide.
"""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.alter_partition import PartitionAlterations
from streamkit.broker.controller.brokers import Brokers, stale_reason
from streamkit.broker.controller.config_decisions import ConfigDecisions
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.features import FeatureUpdates
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.leadership import Elections
from streamkit.broker.controller.lost_replicas import LostReplicas
from streamkit.broker.controller.reassignment import Reassignments
from streamkit.broker.controller.sessions import Sessions
from streamkit.broker.controller.topic_decisions import TopicDecisions
from streamkit.broker.controller.uuids import UuidSource
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from streamkit.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from streamkit.protocol.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from streamkit.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
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
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from streamkit.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from streamkit.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse
from streamkit.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.rng import Rng


class Controller:
    """Decides on `image`; `config` is this node's, as it was started."""

    def __init__(
        self,
        image: MetadataImage,
        config: BrokerConfig,
        *,
        clock: Clock,
        rng: Rng,
        cluster_id: str,
        lost_leader: int | None = None,
    ) -> None:
        """`lost_leader` is the node that decided before and fell silent, if one did."""
        self.image = image
        self.sessions = Sessions(
            node_id=config.node_id,
            timeout_ms=config.broker_session_timeout_ms,
            heartbeat_interval_ms=config.broker_heartbeat_interval_ms,
        )
        self.sessions.begin(image, clock.monotonic_ms(), lost_leader=lost_leader)
        self._config = config
        self._clock = clock
        self._cluster_id = cluster_id
        self._topic_ids = UuidSource(rng, "topic-ids")

    # --- topics, configurations --------------------------------------------------------------------

    def create_topics(self, request: CreateTopicsRequest) -> Decision[CreateTopicsResponse]:
        return self._topics().create(request)

    def delete_topics(self, request: DeleteTopicsRequest) -> Decision[DeleteTopicsResponse]:
        return self._topics().delete(request)

    def create_partitions(self, request: CreatePartitionsRequest) -> Decision[CreatePartitionsResponse]:
        return self._topics().grow(request)

    def alter_configs(
        self, request: IncrementalAlterConfigsRequest
    ) -> Decision[IncrementalAlterConfigsResponse]:
        return self._configs().alter(request)

    def replace_configs(self, request: AlterConfigsRequest) -> Decision[AlterConfigsResponse]:
        return self._configs().replace(request)

    def update_features(
        self, request: UpdateFeaturesRequest, version: int
    ) -> Decision[UpdateFeaturesResponse]:
        return FeatureUpdates(self.image, self._config).update(request, version)

    # --- brokers -----------------------------------------------------------------------------------

    def register_broker(self, request: BrokerRegistrationRequest) -> Decision[BrokerRegistrationResponse]:
        return self._brokers().register(request)

    def heard_from(self, broker_id: int, broker_epoch: int) -> None:
        """The broker lives; what it says is decided on later."""
        if stale_reason(self.image, broker_id, broker_epoch) is ErrorCode.NONE:
            self.sessions.touch(broker_id, self._clock.monotonic_ms())

    def hung_up(self, broker_id: int, broker_epoch: int) -> None:
        """The connection is closed on which the broker sent its heartbeats."""
        if stale_reason(self.image, broker_id, broker_epoch) is ErrorCode.NONE:
            self.sessions.doubt(broker_id, self._clock.monotonic_ms())

    def gone(self, broker_id: int, broker_epoch: int) -> None:
        """The broker's process has ended."""
        if stale_reason(self.image, broker_id, broker_epoch) is ErrorCode.NONE:
            self.sessions.gone(broker_id, self._clock.monotonic_ms())

    def heartbeat(self, request: BrokerHeartbeatRequest) -> Decision[BrokerHeartbeatResponse]:
        return self._brokers().heartbeat(request)

    def fence_expired(self) -> Decision[int | None]:
        return self._brokers().fence_expired()

    def unregister_broker(self, request: UnregisterBrokerRequest) -> Decision[UnregisterBrokerResponse]:
        return self._brokers().unregister(request)

    def register_controller(
        self, request: ControllerRegistrationRequest
    ) -> Decision[ControllerRegistrationResponse]:
        return self._brokers().register_controller(request)

    def allocate_producer_ids(
        self, request: AllocateProducerIdsRequest
    ) -> Decision[AllocateProducerIdsResponse]:
        return self._brokers().allocate_producer_ids(request)

    # --- partitions --------------------------------------------------------------------------------

    def alter_partition(self, request: AlterPartitionRequest) -> Decision[AlterPartitionResponse]:
        stale = stale_reason(self.image, request.broker_id, request.broker_epoch)
        if stale is not ErrorCode.NONE:
            return Decision([], AlterPartitionResponse(error_code=stale))
        return PartitionAlterations(self.image, self._config).alter(request)

    def assign_replicas(self, request: AssignReplicasToDirsRequest) -> Decision[AssignReplicasToDirsResponse]:
        stale = stale_reason(self.image, request.broker_id, request.broker_epoch)
        if stale is not ErrorCode.NONE:
            return Decision([], AssignReplicasToDirsResponse(error_code=stale))
        return LostReplicas(self.image, self._config, request.broker_id).assign(request)

    def elect_leaders(self, request: ElectLeadersRequest) -> Decision[ElectLeadersResponse]:
        return Elections(self.image, self._config).elect(request)

    def balance_leaders(self) -> Decision[int]:
        return Elections(self.image, self._config).balance()

    def reassign_partitions(
        self, request: AlterPartitionReassignmentsRequest
    ) -> Decision[AlterPartitionReassignmentsResponse]:
        return Reassignments(self.image, self._config).alter(request)

    def _topics(self) -> TopicDecisions:
        layers = self.image.broker_layers(self._config.node_id)
        return TopicDecisions(self.image, self._config, layers, self._topic_ids)

    def _configs(self) -> ConfigDecisions:
        return ConfigDecisions(self.image, self._config, self.image.broker_layers(self._config.node_id))

    def _brokers(self) -> Brokers:
        return Brokers(
            image=self.image,
            config=self._config,
            sessions=self.sessions,
            cluster_id=self._cluster_id,
            now_ms=self._clock.monotonic_ms(),
        )
