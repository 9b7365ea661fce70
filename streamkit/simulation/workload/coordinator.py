"""The way to whoever coordinates a group or a transactional id, found anew whenever it was the wrong one."""

from __future__ import annotations

from typing import Any

from streamkit.net.peer import PeerError, PeerUnreachableError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from streamkit.protocol.schema import Message
from streamkit.simulation.workload.client import REQUEST_TIMEOUT_MS, Address, Client

GROUP = 0
TRANSACTION = 1
FIND_COORDINATOR_VERSION = 2
ELSEWHERE = (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE)
"""Answers of a broker that is not the coordinator, or not yet."""


class Coordinator:
    def __init__(self, client: Client, key: str, key_type: int = GROUP) -> None:
        self._client = client
        self._key = key
        self._key_type = key_type
        self._address: Address | None = None

    def mistrust(self) -> None:
        """Whoever was believed to coordinate does not."""
        self._address = None

    async def ask(self, request: Message, version: int, timeout_ms: float = REQUEST_TIMEOUT_MS) -> Any:
        """The coordinator's answer; None, a moment later, if there is none."""
        try:
            return await self.call(request, version, timeout_ms)
        except PeerError:
            await self._client.back_off()
            return None

    async def call(self, request: Message, version: int, timeout_ms: float = REQUEST_TIMEOUT_MS) -> Any:
        """The coordinator's answer; raises PeerError, which says whether it may have been carried out."""
        if self._address is None:
            await self._find()
        if self._address is None:
            raise PeerUnreachableError(f"nobody coordinates {self._key}")
        try:
            return await self._client.ask_at(self._address, request, version, timeout_ms)
        except PeerError:
            self._address = None
            raise

    async def _find(self) -> None:
        request = FindCoordinatorRequest(key=self._key, key_type=self._key_type)
        try:
            response: FindCoordinatorResponse = await self._client.ask_anybody(
                request, FIND_COORDINATOR_VERSION
            )
        except PeerError:
            return
        if response.error_code == ErrorCode.NONE:
            self._address = response.host, response.port
