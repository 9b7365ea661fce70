"""Is anybody listening there? Where connections are refused the process is gone; anything else proves
nothing."""

from __future__ import annotations

import asyncio
from typing import Final

from streamkit.net.peer import Peer, PeerError, PeerRefusedError
from streamkit.runtime.contracts.network import Network

LOOKS_S: Final = (0.0, 0.02, 0.05, 0.1)
"""Pauses before each look: a killed process loses its sockets one after another, the one that it listens on
perhaps last.
"""


async def nobody_listens(network: Network, host: str, port: int, *, timeout_ms: float) -> bool:
    """Whether the machine refuses connections there, now or in a moment; True is certain, False is not."""
    for pause_s in LOOKS_S:
        await asyncio.sleep(pause_s)
        try:
            peer = await Peer.connect(network, host, port, client_id="", timeout_ms=timeout_ms)
        except PeerRefusedError:
            return True
        except PeerError:
            return False
        peer.close()
    return False
