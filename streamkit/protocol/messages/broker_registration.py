"""BrokerRegistration: a broker process becomes known to the controller (KIP-631, 966)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, UInt16, Uuid, schema, versions


class Listener(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0
    security_protocol: Int16 = 0


class Feature(Message):
    name: str = ""
    min_supported_version: Int16 = 0
    max_supported_version: Int16 = 0


@schema("0-4", flexible="0+", key=62)
class BrokerRegistrationRequest(Message):
    broker_id: Int32 = 0
    cluster_id: str = ""
    incarnation_id: Uuid = ZERO_UUID
    listeners: list[Listener] = []
    features: list[Feature] = []
    rack: str | None = ""
    is_migrating_zk_broker: Annotated[bool, versions("1+")] = False
    log_dirs: Annotated[list[Uuid], versions("2+")] = []
    previous_broker_epoch: Annotated[Int64, versions("3+")] = -1


@schema("0-4", flexible="0+", key=62)
class BrokerRegistrationResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    broker_epoch: Int64 = -1
