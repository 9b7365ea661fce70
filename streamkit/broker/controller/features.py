"""What this version knows of the cluster's features, and how their levels are changed (KIP-584, KIP-1022).

A feature's finalized level is a record in the metadata log; a cluster that was founded without it has level
0, which is off, until somebody raises it (`kafka-features.sh upgrade`). A node whose range does not include
the finalized level cannot be part of the cluster: it could not read what the others write. So a level is
finalized only if every node says that it knows it.

To add a feature: a line in `FEATURES`. New clusters begin with its highest level; `MetadataImage.features`
holds the finalized one, and whoever serves the feature asks there (see `has_consumer_groups`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import Decision, Refusal
from streamkit.broker.controller.image import ConfigResource, FeatureRange, MetadataImage, ResourceType
from streamkit.broker.controller.partition_rules import MIN_INSYNC_REPLICAS, partitions
from streamkit.broker.controller.records import (
    ELR_FEATURE,
    FIRST_WITH_ELR_RECORDS,
    GROUP_VERSION_FEATURE,
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    OLDEST_METADATA_VERSION,
    SHARE_VERSION_FEATURE,
    STREAMS_VERSION_FEATURE,
    TRANSACTION_VERSION_FEATURE,
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    PartitionChangeRecord,
)
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature and the levels that this version knows. `needs`: the least metadata.version with it on."""

    name: str
    lowest: int = 0
    highest: int
    needs: int = 0


FEATURES: Final = (
    Feature(name=METADATA_VERSION_FEATURE, lowest=OLDEST_METADATA_VERSION, highest=METADATA_VERSION),
    Feature(name=ELR_FEATURE, highest=1, needs=FIRST_WITH_ELR_RECORDS),
    Feature(name=GROUP_VERSION_FEATURE, highest=1),
    Feature(name=SHARE_VERSION_FEATURE, highest=1),
    Feature(name=STREAMS_VERSION_FEATURE, highest=1),
    Feature(name=TRANSACTION_VERSION_FEATURE, highest=2),
)
KRAFT_VERSION_FEATURE: Final = "kraft.version"
KRAFT_VERSION: Final = 1
"""The quorum's own (KIP-853): in its control records from the first batch on, and never another."""
SUPPORTED: Final = (
    *(FeatureRange(name=one.name, lowest=one.lowest, highest=one.highest) for one in FEATURES),
    FeatureRange(name=KRAFT_VERSION_FEATURE, lowest=0, highest=KRAFT_VERSION),
)

FIRST_VERSION_WITH_UPGRADE_TYPES: Final = 1
FIRST_VERSION_WITHOUT_RESULTS: Final = 2
# The levels from which on the log has records that earlier ones do not know: nobody goes back across them.
METADATA_CHANGES: Final = (FIRST_WITH_ELR_RECORDS,)


class UpgradeType(IntEnum):
    """What a client allows of an update."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


def founding_records(image: MetadataImage) -> list[MetadataRecord]:
    """The first records of a new log: each feature at its highest level. Nothing if the log has begun."""
    if METADATA_VERSION_FEATURE in image.features:
        return []
    return [FeatureLevelRecord(name=one.name, feature_level=one.highest) for one in FEATURES]


def finalized_features(image: MetadataImage) -> dict[str, int]:
    """The levels in force, the quorum's among them."""
    return {**image.features, KRAFT_VERSION_FEATURE: KRAFT_VERSION}


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


class FeatureUpdates:
    """What may become of the features at one moment; all of a request or nothing."""

    def __init__(self, image: MetadataImage, config: BrokerConfig) -> None:
        self._image = image
        self._config = config
        self._now = finalized_features(image)

    def update(self, request: UpdateFeaturesRequest, version: int) -> Decision[UpdateFeaturesResponse]:
        """`version` is that of the request, which says how its fields are meant."""
        wanted = {one.feature: one for one in request.feature_updates}
        after = {**self._now, **{name: one.max_version_level for name, one in wanted.items()}}
        records: list[MetadataRecord] = []
        try:
            for one in wanted.values():
                self._check(one, _upgrade_type(one, version), after)
                records += self._records(one)
        except Refusal as refusal:
            reason = f"The update failed for all features since the following feature had an error: {refusal}"
            return Decision([], UpdateFeaturesResponse(error_code=refusal.code, error_message=reason))
        results = [] if version >= FIRST_VERSION_WITHOUT_RESULTS else [_updated(name) for name in wanted]
        return Decision(
            [] if request.validate_only else records,
            UpdateFeaturesResponse(error_message=None, results=results),
        )

    def _check(self, wanted: FeatureUpdateKey, upgrade_type: int, after: dict[str, int]) -> None:
        name, level = wanted.feature, wanted.max_version_level
        now = self._now.get(name, 0)
        if upgrade_type not in UPGRADE_TYPES:
            raise _invalid(wanted, "The controller does not support the given upgrade type.")
        if level < 0:
            raise _invalid(wanted, "A feature version cannot be less than 0.")
        for reason in self._not_supported(name, level):
            raise _invalid(wanted, reason)
        if all(name != one.name for one in SUPPORTED):
            raise _invalid(wanted, f"Feature {name} not found.")
        if level < now and upgrade_type == UpgradeType.UPGRADE:
            raise _invalid(
                wanted,
                "Can't downgrade the version of this feature without setting the upgrade type to either safe "
                "or unsafe downgrade.",
            )
        if level > now and upgrade_type != UpgradeType.UPGRADE:
            raise _invalid(wanted, "Can't downgrade to a newer version.")
        if name == METADATA_VERSION_FEATURE:
            _check_metadata_version(now, level, upgrade_type)
        elif name == KRAFT_VERSION_FEATURE and level < now:
            raise _invalid(wanted, "Can't downgrade the version of this feature.")
        elif level > 0 and after[METADATA_VERSION_FEATURE] < _needs(name):
            raise _invalid(
                wanted,
                f"{name} could not be set to {level} because it depends on "
                f"{METADATA_VERSION_FEATURE}={_needs(name)}",
            )

    def _not_supported(self, name: str, level: int) -> Iterator[str]:
        """Which nodes do not know the feature at this level, if there are any."""
        yield from _lacks(f"Local controller {self._config.node_id}", SUPPORTED, name, level)
        for broker in self._image.brokers.values():
            yield from _lacks(f"Broker {broker.broker_id}", broker.features, name, level)
        for controller in self._image.controllers.values():
            yield from _lacks(f"Controller {controller.controller_id}", controller.features, name, level)
        registered = {self._config.node_id, *self._image.brokers, *self._image.controllers}
        for voter in self._config.voters():
            if voter.node_id not in registered:
                yield f"controller {voter.node_id} has not registered, and may not support this feature"

    def _records(self, wanted: FeatureUpdateKey) -> list[MetadataRecord]:
        name, level = wanted.feature, wanted.max_version_level
        if level == self._now.get(name, 0):
            return []
        records: list[MetadataRecord] = []
        if name == ELR_FEATURE:
            records += self._with_one_min_isr() if level else self._without_elr()
        return [*records, FeatureLevelRecord(name=name, feature_level=level)]

    def _with_one_min_isr(self) -> Iterator[ConfigRecord]:
        """No single broker has a min.insync.replicas of its own: who is eligible depends on it."""
        for resource, values in self._image.configs.items():
            if resource.type == ResourceType.BROKER and resource.name and MIN_INSYNC_REPLICAS in values:
                yield _removed(resource, MIN_INSYNC_REPLICAS)

    def _without_elr(self) -> Iterator[PartitionChangeRecord]:
        """Who is eligible becomes in sync where nobody is: they hold all that was ever committed."""
        for topic, index, partition in partitions(self._image):
            if partition.elr or partition.last_known_elr:
                yield PartitionChangeRecord(
                    topic_id=topic.topic_id,
                    partition_id=index,
                    isr=None if partition.isr or not partition.elr else list(partition.elr),
                    eligible_leader_replicas=[] if partition.elr else None,
                    last_known_elr=[] if partition.last_known_elr else None,
                )


UPGRADE_TYPES: Final = frozenset(int(one) for one in UpgradeType)


def _upgrade_type(wanted: FeatureUpdateKey, version: int) -> int:
    if version >= FIRST_VERSION_WITH_UPGRADE_TYPES:
        return wanted.upgrade_type
    return UpgradeType.SAFE_DOWNGRADE if wanted.allow_downgrade else UpgradeType.UPGRADE


def _check_metadata_version(now: int, level: int, upgrade_type: int) -> None:
    """Records are not rewritten, so a level that cannot read them is out of reach."""
    if not any(level < first <= now for first in METADATA_CHANGES):
        return
    reason = (
        "Unsafe metadata downgrade is not supported in this version."
        if upgrade_type == UpgradeType.UNSAFE_DOWNGRADE
        else "Refusing to perform the requested downgrade because it might delete metadata information."
    )
    raise Refusal(
        ErrorCode.INVALID_UPDATE_VERSION,
        f"Unsupported metadata.version downgrade from {now} to {level}. {reason}",
    )


def _lacks(who: str, ranges: Iterable[FeatureRange], name: str, level: int) -> Iterator[str]:
    """Why a node does not know the feature at this level. A node that never heard of it has it off."""
    one = next((one for one in ranges if one.name == name), None)
    if one is None and level > 0:
        yield f"{who} does not support this feature."
    elif one is not None and not one.lowest <= level <= one.highest:
        yield f"{who} only supports versions {one.lowest}-{one.highest}"


def _needs(name: str) -> int:
    return next((one.needs for one in FEATURES if one.name == name), 0)


def _invalid(wanted: FeatureUpdateKey, reason: str) -> Refusal:
    return Refusal(
        ErrorCode.INVALID_UPDATE_VERSION,
        f"Invalid update version {wanted.max_version_level} for feature {wanted.feature}. {reason}",
    )


def _removed(resource: ConfigResource, name: str) -> ConfigRecord:
    return ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=name, value=None)


def _updated(name: str) -> UpdatableFeatureResult:
    return UpdatableFeatureResult(feature=name, error_message=ErrorCode.NONE.name)
