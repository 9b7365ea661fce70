"""Which cluster a node belongs to, when its empty directory does not say.

A node alone founds a cluster and draws its id. Several that form one together must all come to the same id,
whichever of them lead, fall and lead again meanwhile. So nobody draws it: it follows from the first batch of
their metadata log, the record of the first election with the random ids of the voters' directories, which is
the same on all nodes once it is committed. Whoever leads the quorum works it out, everybody else asks the
leader, and all of them write it down before they do anything else in the cluster.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from streamkit.broker.storage.identity import encode_uuid, uuid_from
from streamkit.protocol.records.batch import Buffer

CHECKED_FROM: Final = 21
"""Where the part of a batch begins that nobody changes after it was written: behind its checksum."""


def cluster_id_from(first_batch: Buffer) -> str:
    """The id of the cluster whose metadata log begins with this batch."""
    digest = sha256(memoryview(first_batch)[CHECKED_FROM:]).digest()
    return encode_uuid(uuid_from(digest[:16]))
