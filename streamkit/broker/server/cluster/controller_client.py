"""What this node itself asks of whoever decides: to be registered, producer ids, topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.topic_decisions import DEFAULT
from streamkit.broker.server.cluster.controller_channel import ControllerChannel
from streamkit.broker.server.controller.metadata_publisher import MetadataPublisher
from streamkit.errors import RefusedError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from streamkit.protocol.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
)
from streamkit.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)


class RegistrationRefusedError(RefusedError):
    """The controller does not take this process for the broker; `code` says why."""

    def __init__(self, node_id: int, code: ErrorCode) -> None:
        super().__init__(
            f"the controller refuses broker {node_id}: {code.name}",
            hint="every broker needs a --node-id and a --data-dir of its own",
        )
        self.code = code


class ControllerClient:
    def __init__(self, channel: ControllerChannel, publisher: MetadataPublisher, node_id: int) -> None:
        self.broker_epoch = -1
        """Of this process, once it is registered."""
        self._channel = channel
        self._publisher = publisher
        self._node_id = node_id

    @property
    def image(self) -> MetadataImage:
        return self._publisher.image

    async def register(self, registration: BrokerRegistrationRequest) -> None:
        """Make this process the one that the cluster knows as this broker; raises RegistrationRefusedError.

        On return it is known here, too.
        """
        response: BrokerRegistrationResponse = await self._channel.ask(registration)
        if response.error_code != ErrorCode.NONE:
            code = ErrorCode(response.error_code)  # type: ignore[call-arg]  # looked up by value
            raise RegistrationRefusedError(self._node_id, code)
        self.broker_epoch = response.broker_epoch
        await self._publisher.reached(response.broker_epoch + 1)

    async def allocate_producer_ids(self) -> range:
        """Producer ids that nobody else has or will have; raises RefusedError."""
        request = AllocateProducerIdsRequest(broker_id=self._node_id, broker_epoch=self.broker_epoch)
        block: AllocateProducerIdsResponse = await self._channel.ask(request)
        if block.error_code != ErrorCode.NONE:
            raise RefusedError(f"no producer ids for broker {self._node_id}: {name_of(block.error_code)}")
        return range(block.producer_id_start, block.producer_id_start + block.producer_id_len)

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

    async def create_topics(self, topics: Sequence[CreatableTopic]) -> dict[str, str]:
        """Make these topics; of those that do not exist afterwards, why."""
        response: CreateTopicsResponse = await self._channel.ask(CreateTopicsRequest(topics=list(topics)))
        return {
            result.name: result.error_message or name_of(result.error_code)
            for result in response.topics
            if result.name not in self.image.topics
        }

    async def _create(self, topics: list[CreatableTopic]) -> dict[str, int]:
        if not topics:
            return {}
        response: CreateTopicsResponse = await self._channel.ask(CreateTopicsRequest(topics=topics))
        return {
            result.name: ErrorCode.NONE if result.name in self.image.topics else result.error_code
            for result in response.topics
        }


def name_of(code: int) -> str:
    return ErrorCode(code).name  # type: ignore[call-arg]  # looked up by value
