"""What this version knows of the cluster's features, and the levels at which it founds a cluster (KIP-584).

A feature's finalized level is a record in the metadata log; a cluster that was founded without it has level
0, which is off.
"""

from __future__ import annotations

from typing import Final

from streamkit.broker.controller.image import FeatureRange, MetadataImage
from streamkit.broker.controller.records import (
    GROUP_VERSION_FEATURE,
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    FeatureLevelRecord,
    MetadataRecord,
)

SUPPORTED: Final = (
    FeatureRange(name=METADATA_VERSION_FEATURE, lowest=METADATA_VERSION, highest=METADATA_VERSION),
    FeatureRange(name=GROUP_VERSION_FEATURE, lowest=0, highest=1),
)


def founding_records(image: MetadataImage) -> list[MetadataRecord]:
    """The first records of a new log: each feature at its highest level. Nothing if the log has begun."""
    if METADATA_VERSION_FEATURE in image.features:
        return []
    return [FeatureLevelRecord(name=one.name, feature_level=one.highest) for one in SUPPORTED]
