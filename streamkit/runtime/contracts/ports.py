"""All ports of one node, chosen together by whoever starts it."""

from __future__ import annotations

from dataclasses import dataclass

from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.disk import Disk
from streamkit.runtime.contracts.network import Network
from streamkit.runtime.contracts.rng import Rng
from streamkit.runtime.contracts.spawn import Spawn


@dataclass(frozen=True, kw_only=True)
class Ports:
    clock: Clock
    disk: Disk
    network: Network
    rng: Rng
    spawn: Spawn
