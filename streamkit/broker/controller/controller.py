"""The active controller: every change of the cluster's metadata is decided here.

A decision is made from the image as it stands, which must be that of the end of the log; it becomes true
when its records are replayed, which the driver does once they are durable. The rules live beside this file,
by what they decide on: `topic_decisions`, `config_decisions`, `registration`, `placement`.
"""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.config_decisions import ConfigDecisions
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.registration import (
    ProducerIdBlock,
    Registration,
    allocate_producer_ids,
    register_broker,
)
from streamkit.broker.controller.topic_decisions import TopicDecisions
from streamkit.broker.controller.uuids import UuidSource
from streamkit.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from streamkit.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from streamkit.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from streamkit.runtime.contracts.rng import Rng


class Controller:
    """Decides on `image`; `config` is this node's, as it was started."""

    def __init__(self, image: MetadataImage, config: BrokerConfig, rng: Rng) -> None:
        self.image = image
        self._config = config
        self._topic_ids = UuidSource(rng, "topic-ids")

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

    def register_broker(self, registering: Registration) -> Decision[int]:
        return register_broker(self.image, registering)

    def allocate_producer_ids(self, broker_id: int, broker_epoch: int) -> Decision[ProducerIdBlock]:
        return allocate_producer_ids(self.image, broker_id=broker_id, broker_epoch=broker_epoch)

    def _topics(self) -> TopicDecisions:
        layers = self.image.broker_layers(self._config.node_id)
        return TopicDecisions(self.image, self._config, layers, self._topic_ids)

    def _configs(self) -> ConfigDecisions:
        return ConfigDecisions(self.image, self._config, self.image.broker_layers(self._config.node_id))
