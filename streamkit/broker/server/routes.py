"""Everything that a node serves, hence everything that it advertises: to clients, and to other nodes."""

from __future__ import annotations

from streamkit.broker.server.dispatch import Route
from streamkit.broker.server.handlers import (
    api_versions,
    cluster,
    configs,
    fetch,
    groups,
    offsets,
    produce,
    producer_ids,
    topics,
)

ROUTES: tuple[Route, ...] = (
    *produce.ROUTES,
    *fetch.ROUTES,
    *offsets.ROUTES,
    *api_versions.ROUTES,
    *producer_ids.ROUTES,
    *groups.ROUTES,
    *cluster.ROUTES,
    *topics.ROUTES,
    *configs.ROUTES,
)
CONTROLLER_ROUTES: tuple[Route, ...] = (
    *api_versions.ROUTES,
    *cluster.CONTROLLER_ROUTES,
)
