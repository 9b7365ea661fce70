"""What no quorum survives, so that no run asks for it: a voter is taken out while another's disk is lost.

Of three voters the two that remain must both commit the change, and one of them is no more. A leader that
missed a voter for a while refuses to take out another, so only what comes in quick succession is held back
here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from streamkit.broker.raft.voters import ReplicaKey, VoterSet
from streamkit.simulation.loop import VirtualLoop

MISSED_S: Final = 8.0
"""After this time every leader has missed a voter, however late its last fetches arrived."""
LASTING_S: Final = 45.0
"""For so long a request without an answer may still be carried out: brokers pass it on for half a minute."""


class QuorumRisk:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._lost_s = -MISSED_S
        """When a disk was lost last."""
        self._removals: dict[int, float] = {}
        """Voter that somebody asked to take out → until when that may happen."""

    # -- disks

    def disk_lost(self) -> None:
        self._lost_s = self._loop.now_s

    def may_lose(self, node: int, known: Iterable[VoterSet], others: Collection[ReplicaKey]) -> bool:
        """Whether the `others` are a majority of all voters that somebody knows of, also after a removal that
        may be under way.
        """
        leaving = [
            one for one, until_s in self._removals.items() if one != node and self._loop.now_s < until_s
        ]
        possible = [after for voters in known for after in (voters, *map(voters.without, leaving))]
        return all(sum(map(voters.has, others)) >= voters.majority for voters in possible)

    # -- voters

    @property
    def may_remove(self) -> bool:
        """Whether a voter may be asked to go whose disk is intact."""
        return self._loop.now_s >= self._lost_s + MISSED_S

    def removal_asked(self, voter: int) -> None:
        self._removals[voter] = self._loop.now_s + LASTING_S

    def removal_answered(self, voter: int) -> None:
        self._removals.pop(voter, None)
