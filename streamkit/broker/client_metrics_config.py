"""The keys of a client metrics subscription: who pushes which of its metrics, and how often (KIP-714)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from streamkit.broker.config_key import integer, keys_of, parsed, words

ALL_METRICS: Final = "*"
SHORTEST_INTERVAL_MS: Final = 100
LONGEST_INTERVAL_MS: Final = 3_600_000


@dataclass(frozen=True, kw_only=True)
class ClientMetricsConfig:
    """What one subscription asks for; it exists as long as one of its keys is set."""

    metrics: tuple[str, ...] = words(
        "metrics",
        (),
        "Prefixes of the names of the metrics that clients push; `*` is all of them.",
    )
    interval_ms: int = integer(
        "interval.ms",
        300_000,
        f"How often they are pushed, from {SHORTEST_INTERVAL_MS} ms to an hour. A client with several "
        "subscriptions heeds the shortest.",
    )
    match: tuple[str, ...] = words(
        "match",
        (),
        "Which clients, as `ATTRIBUTE=PATTERN`, all of which must match; empty is every client. The "
        "attributes are `client_instance_id`, `client_id`, `client_software_name`, "
        "`client_software_version`, `client_source_address` and `client_source_port`; the patterns are "
        "regular expressions.",
    )

    @classmethod
    def given(cls, texts: Mapping[str, str]) -> Self:
        """Raises InvalidValueError, KeyError."""
        return dataclasses.replace(cls(), **parsed(CLIENT_METRICS_KEYS, texts))  # type: ignore[arg-type]


CLIENT_METRICS_KEYS: Final = keys_of(ClientMetricsConfig)
