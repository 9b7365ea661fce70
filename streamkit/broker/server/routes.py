"""Everything that a node serves, hence everything that it advertises: to clients, and to other nodes.

What only the active controller can serve is served at both kinds of listeners: where clients ask, it is
passed on to it.
"""

from __future__ import annotations

import msgspec

from streamkit.broker.server.cluster.passing_on import pass_on
from streamkit.broker.server.dispatch import Route
from streamkit.broker.server.handlers import (
    api_versions,
    brokers,
    client_telemetry,
    cluster,
    config_alterations,
    config_resources,
    configs,
    consumer_groups,
    envelope,
    features,
    fetch,
    groups,
    log_dirs,
    markers,
    offsets,
    partitions,
    produce,
    quorum,
    share_acknowledge,
    share_fetch,
    share_groups,
    share_states,
    streams_groups,
    topics,
    transactions,
)

_FOR_CLIENTS: tuple[Route, ...] = (
    *produce.ROUTES,
    *fetch.ROUTES,
    *offsets.ROUTES,
    *log_dirs.ROUTES,
    *api_versions.ROUTES,
    *transactions.ROUTES,
    *markers.ROUTES,
    *share_fetch.ROUTES,
    *share_acknowledge.ROUTES,
    *share_states.ROUTES,
    *groups.ROUTES,
    *consumer_groups.ROUTES,
    *share_groups.ROUTES,
    *streams_groups.ROUTES,
    *cluster.ROUTES,
    *topics.ROUTES,
    *configs.ROUTES,
    *config_alterations.ROUTES,
    *config_resources.ROUTES,
    *quorum.ROUTES,
    *partitions.ROUTES,
    *brokers.ROUTES,
    *features.ROUTES,
    *client_telemetry.ROUTES,
)
ROUTES: tuple[Route, ...] = tuple(
    msgspec.structs.replace(route, handle=pass_on) if route.by_controller else route for route in _FOR_CLIENTS
)
CONTROLLER_ROUTES: tuple[Route, ...] = (
    *api_versions.ROUTES,
    *cluster.CONTROLLER_ROUTES,
    *envelope.CONTROLLER_ROUTES,
    *quorum.CONTROLLER_ROUTES,
    *brokers.CONTROLLER_ROUTES,
    *partitions.CONTROLLER_ROUTES,
    *config_alterations.CONTROLLER_ROUTES,
    *(route for route in _FOR_CLIENTS if route.by_controller),
)
