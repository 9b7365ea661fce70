"""Which clients a subscription is for: patterns over what a client is known by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeAlias

from streamkit.broker.regular_expression import InvalidPatternError, Pattern


class Attribute(StrEnum):
    """What a client is known by."""

    INSTANCE_ID = "client_instance_id"
    CLIENT_ID = "client_id"
    SOFTWARE_NAME = "client_software_name"
    SOFTWARE_VERSION = "client_software_version"
    SOURCE_ADDRESS = "client_source_address"
    SOURCE_PORT = "client_source_port"


Attributes: TypeAlias = Mapping[Attribute, str]
"""Those that are known of a client."""


class IllegalMatchError(ValueError):
    """Not of the form ATTRIBUTE=PATTERN, or the attribute or the pattern is none."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Illegal client matching pattern: {text}")


class ClientMatch:
    """Of several patterns for one attribute the last counts, as in Kafka. Raises IllegalMatchError."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._patterns = dict(_parse(text) for text in texts)

    def fits(self, client: Attributes) -> bool:
        return all(
            attribute in client and pattern.matches(client[attribute])
            for attribute, pattern in self._patterns.items()
        )


def _parse(text: str) -> tuple[Attribute, Pattern]:
    name, _, pattern = text.partition("=")
    if not pattern.strip() or "=" in pattern:
        raise IllegalMatchError(text)
    try:
        return Attribute(name.strip()), Pattern(pattern.strip())
    except (ValueError, InvalidPatternError):
        raise IllegalMatchError(text) from None
