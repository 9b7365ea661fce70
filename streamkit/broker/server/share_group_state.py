"""The way from a share group to the state of its share-partitions, which a share coordinator keeps.

What a group decides about states (`coordination/group/share/states`) is a command: begin these, forget those.
Here it is carried out, and the group is told what became of it, partition by partition.
"""

from __future__ import annotations

from typing import Protocol

from streamkit.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
)
from streamkit.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
)
from streamkit.protocol.messages.read_share_group_state_summary import (
    ReadShareGroupStateSummaryRequest,
    ReadShareGroupStateSummaryResponse,
)


class SharePersister(Protocol):
    """Asks whoever coordinates each share-partition named (`group:topicId:partition`), and tries again for a
    while where that moves.

    Never raises: every partition named has its result, with the error of the last attempt if none succeeded.
    """

    async def initialize(
        self, message: InitializeShareGroupStateRequest
    ) -> InitializeShareGroupStateResponse: ...

    async def delete(self, message: DeleteShareGroupStateRequest) -> DeleteShareGroupStateResponse: ...

    async def read_summary(
        self, message: ReadShareGroupStateSummaryRequest
    ) -> ReadShareGroupStateSummaryResponse: ...
