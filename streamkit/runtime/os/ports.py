"""The ports of a node that runs for real."""

from __future__ import annotations

import socket
from collections.abc import Callable

from streamkit.runtime.contracts.ports import Ports
from streamkit.runtime.os.clock import SystemClock
from streamkit.runtime.os.disk import OsDisk
from streamkit.runtime.os.network import TcpNetwork
from streamkit.runtime.os.rng import SystemRng
from streamkit.runtime.os.spawn import TaskSpawn


def os_ports(
    on_task_failure: Callable[[str, BaseException], None], listening: socket.socket | None = None
) -> Ports:
    return Ports(
        clock=SystemClock(),
        disk=OsDisk(),
        network=TcpNetwork(listening),
        rng=SystemRng(),
        spawn=TaskSpawn(on_task_failure),
    )
