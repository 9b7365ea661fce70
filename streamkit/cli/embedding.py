"""The broker that a command brings along, and the line that says where it listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamkit.cli.output import remark
from streamkit.embedded import DEFAULT_PORT, EmbeddedBroker


@contextmanager
def embedded_broker(data_dir: Path) -> Iterator[EmbeddedBroker]:
    """A broker at the default port, or the next free one."""
    with EmbeddedBroker(data_dir, port=DEFAULT_PORT) as broker:
        taken = f"  (port {DEFAULT_PORT} is taken)" if broker.port != DEFAULT_PORT else ""
        remark(f"broker   embedded · {broker.bootstrap} · {data_dir}{taken}")
        yield broker
