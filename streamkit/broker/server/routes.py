"""Everything that a broker serves, hence everything that it advertises."""

from __future__ import annotations

from streamkit.broker.server.dispatch import Route
from streamkit.broker.server.handlers import api_versions, fetch, groups, offsets, produce, producer_ids

ROUTES: tuple[Route, ...] = (
    *produce.ROUTES,
    *fetch.ROUTES,
    *offsets.ROUTES,
    *api_versions.ROUTES,
    *producer_ids.ROUTES,
    *groups.ROUTES,
)
