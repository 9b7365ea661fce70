"""The corpus, by families of APIs; each page enters its scenarios when it is imported."""

from __future__ import annotations

from tests.differential.corpus import (
    cluster_admin,
    configs,
    consumer_groups,
    fetch,
    group_offsets,
    groups,
    metadata,
    negotiation,
    offsets,
    produce,
    share_groups,
    share_state,
    streams_groups,
    telemetry,
    topics,
    transactions,
)

__all__ = [
    "cluster_admin", "configs", "consumer_groups", "fetch", "group_offsets", "groups", "metadata",
    "negotiation", "offsets", "produce", "share_groups", "share_state", "streams_groups", "telemetry",
    "topics", "transactions",
]  # fmt: skip
