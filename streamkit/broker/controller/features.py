"""What this version knows of the cluster's features, and the levels at which it founds a cluster (KIP-584).

A feature's finalized level is a record in the metadata log; a cluster that was founded without it has level
0, which is off. A node whose range does not include it cannot be
part of the cluster: it could not read what the others write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamkit.broker.controller.decision import Refusal
from streamkit.broker.controller.image import FeatureRange, MetadataImage
from streamkit.broker.controller.records import (
    ELR_FEATURE,
    GROUP_VERSION_FEATURE,
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    OLDEST_METADATA_VERSION,
    SHARE_VERSION_FEATURE,
    STREAMS_VERSION_FEATURE,
    TRANSACTION_VERSION_FEATURE,
    FeatureLevelRecord,
    MetadataRecord,
)
from streamkit.protocol.error_codes import ErrorCode

SUPPORTED: Final = (
    FeatureRange(name=METADATA_VERSION_FEATURE, lowest=OLDEST_METADATA_VERSION, highest=METADATA_VERSION),
    FeatureRange(name=ELR_FEATURE, lowest=0, highest=1),
    FeatureRange(name=GROUP_VERSION_FEATURE, lowest=0, highest=1),
    FeatureRange(name=SHARE_VERSION_FEATURE, lowest=0, highest=1),
    FeatureRange(name=STREAMS_VERSION_FEATURE, lowest=0, highest=1),
    FeatureRange(name=TRANSACTION_VERSION_FEATURE, lowest=0, highest=2),
)


def founding_records(image: MetadataImage) -> list[MetadataRecord]:
    """The first records of a new log: each feature at its highest level. Nothing if the log has begun."""
    if METADATA_VERSION_FEATURE in image.features:
        return []
    return [FeatureLevelRecord(name=one.name, feature_level=one.highest) for one in SUPPORTED]


def check_supports_finalized(image: MetadataImage, ranges: Iterable[FeatureRange]) -> None:
    """Refuse a node that does not know the finalized level of some feature."""
    offered = {one.name: one for one in ranges}
    for name, level in image.features.items():
        one = offered.get(name, FeatureRange(name=name, lowest=0, highest=0))
        if not one.lowest <= level <= one.highest:
            raise Refusal(
                ErrorCode.UNSUPPORTED_VERSION,
                f"Unable to register because the node does not support finalized version {level} of {name}: "
                f"it knows {one.lowest} to {one.highest}.",
            )
