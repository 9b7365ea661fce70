"""A broker's life as its controller knows it (KIP-631).

    register ──► open partitions, listen ──► heartbeat until unfenced ──► heartbeat … ──► ask to go

A process keeps its incarnation id as long as it lives, and registers again when the controller does not know
it or its epoch any more: another process took the broker's place, or somebody unregistered it. Its epoch is
written down before it is live, so that the next process on this directory can say whose successor it is, and
with it that nothing is missing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.features import SUPPORTED
from streamkit.broker.controller.image import Endpoint
from streamkit.broker.log.checkpoint import DamagedCheckpointError, decode_lines, encode_lines
from streamkit.broker.server.cluster.controller_channel import ControllerChannel, NoControllerError
from streamkit.broker.server.cluster.controller_client import (
    ControllerClient,
    RegistrationRefusedError,
    name_of,
)
from streamkit.broker.server.controller.metadata_publisher import MetadataPublisher
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from streamkit.protocol.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener
from streamkit.runtime.contracts.spawn import Spawn

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory
    from streamkit.runtime.contracts.disk import Disk

log = structlog.get_logger(__name__)

UNKNOWN_EPOCH: Final = -1  # "something acknowledged may be missing here", or "there was no process before"
EPOCH_FILE: Final = "broker-epoch"
RETRY_S: Final = 0.1
LEAVING_S: Final = 5.0
"""How long to wait until others lead what this broker led, before it goes all the same."""
LEAVING_CALL_MS: Final = 1500


def registration_request(
    config: BrokerConfig,
    *,
    cluster_id: str,
    incarnation_id: bytes,
    endpoints: Iterable[Endpoint],
    directory_id: bytes,
    previous_broker_epoch: int,
) -> BrokerRegistrationRequest:
    return BrokerRegistrationRequest(
        broker_id=config.node_id,
        cluster_id=cluster_id,
        incarnation_id=incarnation_id,
        listeners=[Listener(name=one.name, host=one.host, port=one.port) for one in endpoints],
        features=[
            Feature(name=one.name, min_supported_version=one.lowest, max_supported_version=one.highest)
            for one in SUPPORTED
        ],
        rack=config.broker_rack or None,
        log_dirs=[directory_id],
        previous_broker_epoch=previous_broker_epoch,
    )


class BrokerLifecycle:
    """`endpoints` are what the broker's clients are told, known once its ports are bound."""

    def __init__(
        self,
        config: BrokerConfig,
        client: ControllerClient,
        channel: ControllerChannel,
        publisher: MetadataPublisher,
        *,
        directory: LogDirectory,
        disk: Disk,
        spawn: Spawn,
        incarnation_id: bytes,
        endpoints: Callable[[], Iterable[Endpoint]],
    ) -> None:
        self._config = config
        self._client = client
        self._channel = channel
        self._publisher = publisher
        self._directory = directory
        self._disk = disk
        self._spawn = spawn
        self._incarnation_id = incarnation_id
        self._endpoints = endpoints
        self._previous_epoch = self._read_epoch() if directory.kept_everything else UNKNOWN_EPOCH
        self._is_leaving = False

    # --- register --------------------------------------------------------------------------------

    async def register(self) -> None:
        """Make this process the one that the cluster knows as this broker, however long it takes.

        On return it is known here, too. Raises RefusedError if it can never be.
        """
        while True:
            try:
                await self._client.register(self._registration())
                break
            except NoControllerError as error:
                log.warning("no controller to register with", reason=error.message)
            except RegistrationRefusedError as error:
                if error.code is not ErrorCode.DUPLICATE_BROKER_REGISTRATION:
                    raise
                log.warning("another process is registered as this broker; waiting for its session to end")
            await asyncio.sleep(RETRY_S)
        epoch = self._client.broker_epoch
        if epoch != self._previous_epoch:
            await self._disk.replace(self._epoch_path, encode_lines([str(epoch)]))
            self._previous_epoch = epoch

    def _registration(self) -> BrokerRegistrationRequest:
        return registration_request(
            self._config,
            cluster_id=self._directory.cluster_id,
            incarnation_id=self._incarnation_id,
            endpoints=self._endpoints(),
            directory_id=self._directory.directory_id,
            previous_broker_epoch=self._previous_epoch,
        )

    @property
    def _epoch_path(self) -> str:
        return f"{self._directory.path}/{EPOCH_FILE}"

    def _read_epoch(self) -> int:
        try:
            (epoch,) = decode_lines(self._disk.read_file(self._epoch_path))
            return int(epoch)
        except FileNotFoundError:
            return UNKNOWN_EPOCH
        except (DamagedCheckpointError, ValueError) as error:
            log.warning("broker_epoch_damaged", path=self._epoch_path, reason=str(error))
            return UNKNOWN_EPOCH

    # --- live ------------------------------------------------------------------------------------

    async def go_live(self) -> None:
        """Return once the cluster may make this broker a leader, and this node knows it."""
        while (await self._heartbeat(self._config.broker_session_timeout_ms)).is_fenced:
            await asyncio.sleep(RETRY_S)
        while not self._publisher.image.is_live(self._config.node_id):
            await self._publisher.reached(self._publisher.caught_up_to + 1)
        self._spawn.start(self._stay_live(), name="broker heartbeats")

    async def _stay_live(self) -> None:
        while not self._is_leaving:
            await asyncio.sleep(self._config.broker_heartbeat_interval_ms / 1000)
            if not self._is_leaving:
                await self._heartbeat(self._config.broker_session_timeout_ms)

    async def _heartbeat(self, timeout_ms: float) -> BrokerHeartbeatResponse:
        """One heartbeat; without a controller, as if fenced. Registers again if that is what it takes."""
        request = BrokerHeartbeatRequest(
            broker_id=self._config.node_id,
            broker_epoch=self._client.broker_epoch,
            current_metadata_offset=self._publisher.caught_up_to - 1,
            want_shut_down=self._is_leaving,
        )
        try:
            response: BrokerHeartbeatResponse = await self._channel.ask(request, timeout_ms=timeout_ms)
        except NoControllerError as error:
            log.warning("no controller heard the heartbeat", reason=error.message)
            return BrokerHeartbeatResponse()
        except StreamkitError as error:
            log.error("heartbeat failed", reason=error.message)
            return BrokerHeartbeatResponse()
        match response.error_code:
            case ErrorCode.NONE:
                return response
            case ErrorCode.STALE_BROKER_EPOCH | ErrorCode.BROKER_ID_NOT_REGISTERED if not self._is_leaving:
                log.warning("registering again", reason=name_of(response.error_code))
                await self.register()
            case code:
                log.warning("heartbeat refused", reason=name_of(code))
        return BrokerHeartbeatResponse()

    # --- go --------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Have others lead what this broker leads (controlled shutdown), within LEAVING_S."""
        if self._client.broker_epoch == UNKNOWN_EPOCH:
            return
        self._is_leaving = True
        try:
            async with asyncio.timeout(LEAVING_S):
                while not (response := await self._heartbeat(LEAVING_CALL_MS)).should_shut_down:
                    if response.is_fenced:
                        log.warning("leaving without the controller's consent")
                        return
                    await asyncio.sleep(RETRY_S / 2)
        except TimeoutError:
            log.warning("leaving although not everybody knows the new leaders yet", waited_s=LEAVING_S)
