"""What this node itself asks of whoever decides: to be registered, producer ids, topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.registration import Registration
from streamkit.broker.controller.topic_decisions import DEFAULT
from streamkit.broker.server.active_controller import ActiveController
from streamkit.broker.server.metadata_publisher import MetadataPublisher
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)


class ControllerClient:
    def __init__(self, controller: ActiveController, publisher: MetadataPublisher, node_id: int) -> None:
        self.broker_epoch = -1
        """Of this process, once it is registered."""
        self._controller = controller
        self._publisher = publisher
        self._node_id = node_id

    @property
    def image(self) -> MetadataImage:
        return self._publisher.image

    async def register(self, registration: Registration) -> None:
        """Make this process the one that the cluster knows as this broker."""
        self.broker_epoch = await self._controller.submit(
            lambda controller: controller.register_broker(registration)
        )

    async def allocate_producer_ids(self) -> range:
        """Producer ids that nobody else has or will have."""
        block = await self._controller.submit(
            lambda controller: controller.allocate_producer_ids(self._node_id, self.broker_epoch)
        )
        return range(block.first, block.first + block.size)

    async def create_missing(self, names: Sequence[str]) -> dict[str, int]:
        """Make these topics with the broker's defaults; NONE for each that exists afterwards."""
        return await self._create(
            [CreatableTopic(name=name, num_partitions=DEFAULT, replication_factor=DEFAULT) for name in names]
        )

    async def create_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> ErrorCode:
        """Make a topic of our own; NONE if it exists afterwards."""
        wanted = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=[CreatableTopicConfig(name=key, value=text) for key, text in configs.items()],
        )
        code = (await self._create([wanted]))[name]
        return ErrorCode(code)  # type: ignore[call-arg]  # looked up by value

    async def _create(self, topics: list[CreatableTopic]) -> dict[str, int]:
        if not topics:
            return {}
        request = CreateTopicsRequest(topics=topics)
        response = await self._controller.submit(lambda controller: controller.create_topics(request))
        return {
            result.name: ErrorCode.NONE if result.name in self.image.topics else result.error_code
            for result in response.topics
        }
