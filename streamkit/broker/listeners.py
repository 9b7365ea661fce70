"""`listeners` and `advertised.listeners`: from `NAME://host:port` to where to listen and what to tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from streamkit.errors import UsageError

WILDCARD_HOSTS: Final = ("", "0.0.0.0", "::")
_UNSUPPORTED_PROTOCOLS: Final = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True, kw_only=True)
class Listener:
    """One `NAME://host:port` of `listeners` or `advertised.listeners`. An empty host is every interface."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


def parse_listeners(key: str, texts: Iterable[str]) -> tuple[Listener, ...]:
    listeners = tuple(_parse_listener(key, text) for text in texts)
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        raise UsageError(f"{key} uses a listener name twice: {', '.join(names)}")
    if key == "listeners" and not listeners:
        raise UsageError("listeners is empty", hint="for example listeners=PLAINTEXT://127.0.0.1:9092")
    return listeners


def _parse_listener(key: str, text: str) -> Listener:
    name, _, address = text.partition("://")
    host, colon, port = address.rpartition(":")
    if not (name and colon and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"{key}: {text!r} is not NAME://host:port")
    if name.upper() in _UNSUPPORTED_PROTOCOLS:
        raise UsageError(f"{key}: {name} is not supported; listeners are plaintext")
    return Listener(name=name.upper(), host=host.strip("[]"), port=int(port))
