"""A broker's life as its controller knows it (KIP-631): what a process says of itself when it registers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.features import SUPPORTED
from streamkit.broker.controller.image import Endpoint
from streamkit.protocol.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener

UNKNOWN_EPOCH: Final = -1  # "something acknowledged may be missing here", or "there was no process before"


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
