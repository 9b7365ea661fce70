"""Who is asked for what, and who may push when: each answer as Kafka 4.3 gives it."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from streamkit.broker.client_metrics import instances as module
from streamkit.broker.client_metrics.client_match import Attribute, ClientMatch, IllegalMatchError
from streamkit.broker.client_metrics.instances import ClientInstances, Subscription
from streamkit.broker.client_metrics_config import ClientMetricsConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from streamkit.protocol.messages.push_telemetry import PushTelemetryRequest
from streamkit.protocol.schema import ZERO_UUID

INTERVAL_MS = 2_000


class Side:
    """A broker's side, its clock, and one client."""

    def __init__(self, **subscriptions: dict[str, str]) -> None:
        ids = count(5)
        self.gone: list[bytes] = []
        self.now_ms = 10_000_000
        self.instances = ClientInstances(
            max_bytes=1000, fresh_id=lambda: next(ids).to_bytes(16), on_gone=self.gone.append
        )
        self.subscribe(**subscriptions)
        self.id = ZERO_UUID
        self.subscription_id = 0

    def subscribe(self, **subscriptions: dict[str, str] | None) -> None:
        self.instances.subscribe(
            {
                name: None if texts is None else Subscription.of(ClientMetricsConfig.given(texts))
                for name, texts in subscriptions.items()
            }
        )

    def get(self, instance_id: bytes | None = None) -> GetTelemetrySubscriptionsResponse:
        request = GetTelemetrySubscriptionsRequest(
            client_instance_id=self.id if instance_id is None else instance_id
        )
        response = self.instances.asked(request, self._attributes, self.now_ms)
        if not response.error_code:
            self.id, self.subscription_id = response.client_instance_id, response.subscription_id
        return response

    def push(self, **fields: Any) -> ErrorCode:
        request = PushTelemetryRequest(
            **{"client_instance_id": self.id, "subscription_id": self.subscription_id, **fields}
        )
        return self.instances.pushes(request, self._attributes, self.now_ms)

    def _attributes(self, instance_id: bytes) -> dict[Attribute, str]:
        return {Attribute.CLIENT_ID: "shop 1", Attribute.SOURCE_PORT: "5", Attribute.INSTANCE_ID: "A"}

    def wait(self, ms: int = INTERVAL_MS) -> None:
        self.now_ms += ms


@pytest.fixture
def side() -> Side:
    return Side(one={"metrics": "b,a", "interval.ms": str(INTERVAL_MS)})


def test_a_client_without_an_id_gets_one_and_keeps_it(side: Side) -> None:
    response = side.get()
    assert response.client_instance_id == (5).to_bytes(16)
    assert (response.push_interval_ms, response.requested_metrics) == (INTERVAL_MS, ["a", "b"])
    assert (response.telemetry_max_bytes, response.delta_temporality) == (1000, True)
    assert response.accepted_compression_types == [4, 3, 1, 2]
    side.wait()
    again = side.get()
    assert again.client_instance_id == response.client_instance_id
    assert again.subscription_id == response.subscription_id


def test_whoever_comes_too_early_is_throttled(side: Side) -> None:
    side.get()
    assert side.get().error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
    assert side.push() is ErrorCode.NONE, "clients spread their first pushes over the interval"
    assert side.push() is ErrorCode.THROTTLING_QUOTA_EXCEEDED
    side.wait()
    assert side.push() is ErrorCode.NONE
    assert side.get().error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED


def test_a_wrong_subscription_sends_the_client_back_at_once(side: Side) -> None:
    side.get()
    side.push()
    side.wait()
    assert side.push(subscription_id=side.subscription_id + 1) is ErrorCode.UNKNOWN_SUBSCRIPTION_ID
    assert side.get().error_code == 0
    assert side.push() is ErrorCode.THROTTLING_QUOTA_EXCEEDED, "as in Kafka: the interval goes on"


def test_an_altered_subscription_is_another_for_those_who_push(side: Side) -> None:
    side.get()
    side.push()
    side.subscribe(one={"metrics": "a"})
    side.wait(1)
    assert side.push() is ErrorCode.UNKNOWN_SUBSCRIPTION_ID
    assert side.get().requested_metrics == ["a"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"compression_type": 9}, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
        ({"metrics": bytes(1001)}, ErrorCode.TELEMETRY_TOO_LARGE),
        ({"metrics": bytes(1000)}, ErrorCode.NONE),
        ({"client_instance_id": ZERO_UUID}, ErrorCode.INVALID_REQUEST),
        ({"client_instance_id": bytes(15) + b"\1"}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_a_push_may_be(side: Side, fields: dict[str, Any], code: ErrorCode) -> None:
    side.get()
    assert side.push(**fields) is code


def test_the_last_push_may_come_at_any_time_and_nothing_after_it(side: Side) -> None:
    side.get()
    side.push()
    assert side.push(terminating=True) is ErrorCode.NONE
    assert side.push(terminating=True) is ErrorCode.INVALID_REQUEST
    assert side.push() is ErrorCode.INVALID_REQUEST


def test_a_client_that_another_broker_knows_is_taken_in(side: Side) -> None:
    known = bytes(15) + b"\7"
    assert side.get(known).client_instance_id == known
    fresh = Side(one={"metrics": "b,a", "interval.ms": str(INTERVAL_MS)})
    fresh.id, fresh.subscription_id = known, side.subscription_id
    assert fresh.push() is ErrorCode.NONE, "its subscription has the same id everywhere"


def test_several_subscriptions_add_up() -> None:
    side = Side(
        one={"metrics": "a", "interval.ms": "5000"},
        two={"metrics": "b", "interval.ms": "500", "match": "client_id=shop.*,client_source_port=5"},
        other={"metrics": "c", "interval.ms": "100", "match": "client_id=shop"},
        unknown={"metrics": "d", "match": "client_software_name=.*"},
    )
    response = side.get()
    assert (response.requested_metrics, response.push_interval_ms) == (["a", "b"], 500)
    side.subscribe(all={"metrics": "x,*"}, two=None)
    response = side.get()
    assert (response.requested_metrics, response.push_interval_ms) == (["*"], 5000)


def test_without_a_subscription_nothing_is_asked_for() -> None:
    side = Side()
    response = side.get()
    assert (response.requested_metrics, response.push_interval_ms) == ([], 300_000)


def test_silent_clients_are_forgotten(side: Side) -> None:
    side.get()
    side.wait(59_999)
    side.instances.expire(side.now_ms)
    assert side.gone == []
    side.wait(1)
    side.instances.expire(side.now_ms)
    assert (side.gone, side.instances.known) == ([side.id], {})


def test_beyond_the_bound_the_one_that_was_silent_longest_goes(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_INSTANCES", 2)
    first, second, third = (bytes(15) + bytes([n]) for n in (11, 12, 13))
    for instance_id in (first, second):
        side.get(instance_id)
    side.wait()
    side.get(first)
    side.get(third)
    assert side.gone == [second]


@pytest.mark.parametrize("text", ["", "client_id", "client_id=", "nobody=x", "client_id=a=b", "client_id=["])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(IllegalMatchError, match=r"^Illegal client matching pattern: "):
        ClientMatch([text])
