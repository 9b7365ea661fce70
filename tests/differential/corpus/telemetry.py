"""Metrics that clients push (KIP-714). Kafka takes them only with a plugin, and has none as it comes."""

from __future__ import annotations

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from streamkit.protocol.messages.push_telemetry import PushTelemetryRequest
from tests.differential.scenario import Client, scenario

CLIENT = b"\5" * 16


@scenario(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, "0")
async def nobody_subscribes(client: Client) -> None:
    await client.wrong(GetTelemetrySubscriptionsRequest())
    await client.wrong(GetTelemetrySubscriptionsRequest(client_instance_id=CLIENT))
    await client.wrong(GetTelemetrySubscriptionsRequest(client_instance_id=bytes(15) + b"\1"))


@scenario(ApiKey.PUSH_TELEMETRY, "0")
async def nobody_takes_metrics(client: Client) -> None:
    await client.wrong(PushTelemetryRequest(client_instance_id=CLIENT))
    await client.wrong(PushTelemetryRequest(client_instance_id=CLIENT, subscription_id=7, metrics=b"junk"))
    await client.wrong(PushTelemetryRequest(client_instance_id=CLIENT, compression_type=9, terminating=True))
