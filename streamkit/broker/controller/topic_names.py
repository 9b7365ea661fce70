"""Which names a topic may have, and which names mean the cluster's own topics."""

from __future__ import annotations

import re
from typing import Final

CLUSTER_METADATA: Final = "__cluster_metadata"
CONSUMER_OFFSETS: Final = "__consumer_offsets"
TRANSACTION_STATE: Final = "__transaction_state"
SHARE_GROUP_STATE: Final = "__share_group_state"
INTERNAL_TOPICS: Final = frozenset((CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE))
MAX_NAME_LENGTH: Final = 249  # with "-" and a partition number it is still a file name of 255 bytes

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def invalid_reason(name: str) -> str | None:
    """Why `name` cannot name a topic, or None if it can."""
    if not name:
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > MAX_NAME_LENGTH:
        return f"Topic name is invalid: it has {len(name)} characters, and {MAX_NAME_LENGTH} are allowed"
    if not _LEGAL.fullmatch(name):
        return f"Topic name is invalid: '{name}' contains more than ASCII letters, digits, '.', '_' and '-'"
    return None


def collision_key(name: str) -> str:
    """Names with equal keys give metrics of equal names, because those cannot contain a period."""
    return name.replace(".", "_")
