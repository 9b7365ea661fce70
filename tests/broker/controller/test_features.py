"""UpdateFeatures: each rule as Kafka 4.3 answers it, and what a change of level brings with it."""

from __future__ import annotations

import pytest

from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.features import SUPPORTED, UpgradeType
from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.controller.records import (
    ELR_FEATURE,
    FIRST_WITH_ELR_RECORDS,
    GROUP_VERSION_FEATURE,
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    NO_LEADER,
    ConfigRecord,
    FeatureLevelRecord,
)
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.broker_registration import Feature as RegisteredFeature
from streamkit.protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from tests.broker.controller.cluster import Cluster, topic

WITHOUT_ELR = FIRST_WITH_ELR_RECORDS - 1
UPGRADE, SAFE, UNSAFE = UpgradeType.UPGRADE, UpgradeType.SAFE_DOWNGRADE, UpgradeType.UNSAFE_DOWNGRADE


def update(
    cluster: Cluster, *updates: tuple[str, int, int], version: int = 2, validate_only: bool = False
) -> UpdateFeaturesResponse:
    request = UpdateFeaturesRequest(
        feature_updates=[
            FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=upgrade_type)
            for name, level, upgrade_type in updates
        ],
        validate_only=validate_only,
    )
    return cluster.apply(cluster.controller.update_features(request, version))


def finalize(cluster: Cluster, name: str, level: int) -> None:
    """As an older version has left it."""
    cluster.apply(Decision([FeatureLevelRecord(name=name, feature_level=level)], None))


def test_down_and_up_again() -> None:
    cluster = Cluster()
    assert update(cluster, (GROUP_VERSION_FEATURE, 0, SAFE)).error_code == 0
    assert not cluster.image.has_consumer_groups
    assert update(cluster, (GROUP_VERSION_FEATURE, 1, UPGRADE)).error_code == 0
    assert cluster.image.has_consumer_groups
    assert cluster.replayed().features == cluster.image.features


def test_the_level_that_is_there_and_mere_validation_write_nothing() -> None:
    cluster = Cluster()
    length = len(cluster.log)
    assert update(cluster, (GROUP_VERSION_FEATURE, 1, SAFE)).error_code == 0
    assert update(cluster, ("kraft.version", 1, UPGRADE)).error_code == 0
    assert update(cluster, (GROUP_VERSION_FEATURE, 0, SAFE), validate_only=True).error_code == 0
    assert update(cluster).error_code == 0
    assert len(cluster.log) == length


@pytest.mark.parametrize(
    ("name", "level", "upgrade_type", "reason"),
    [
        (
            GROUP_VERSION_FEATURE, 0, UPGRADE,
            "Invalid update version 0 for feature group.version. Can't downgrade the version of this feature "
            "without setting the upgrade type to either safe or unsafe downgrade.",
        ),
        (
            GROUP_VERSION_FEATURE, 5, UPGRADE,
            "Invalid update version 5 for feature group.version. Local controller 100 only supports versions "
            "0-1",
        ),
        (
            "nope", 1, UPGRADE,
            "Invalid update version 1 for feature nope. Local controller 100 does not support this feature.",
        ),
        ("nope", 0, UPGRADE, "Invalid update version 0 for feature nope. Feature nope not found."),
        (
            GROUP_VERSION_FEATURE, -1, UPGRADE,
            "Invalid update version -1 for feature group.version. A feature version cannot be less than 0.",
        ),
        (
            GROUP_VERSION_FEATURE, 1, 9,
            "Invalid update version 1 for feature group.version. The controller does not support the given "
            "upgrade type.",
        ),
        (
            "kraft.version", 0, UNSAFE,
            "Invalid update version 0 for feature kraft.version. Can't downgrade the version of this "
            "feature.",
        ),
        (
            METADATA_VERSION_FEATURE, WITHOUT_ELR, SAFE,
            f"Unsupported metadata.version downgrade from {METADATA_VERSION} to {WITHOUT_ELR}. "
            "Refusing to perform the requested downgrade because it might delete metadata information.",
        ),
        (
            METADATA_VERSION_FEATURE, WITHOUT_ELR, UNSAFE,
            f"Unsupported metadata.version downgrade from {METADATA_VERSION} to {WITHOUT_ELR}. "
            "Unsafe metadata downgrade is not supported in this version.",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_with_kafkas_words(name: str, level: int, upgrade_type: int, reason: str) -> None:
    cluster = Cluster()
    length = len(cluster.log)
    response = update(cluster, (name, level, upgrade_type))
    prefix = "The update failed for all features since the following feature had an error: "
    assert (response.error_code, response.error_message) == (
        ErrorCode.INVALID_UPDATE_VERSION,
        prefix + reason,
    )
    assert len(cluster.log) == length


def test_one_bad_update_leaves_all_as_it_is() -> None:
    cluster = Cluster()
    assert update(cluster, (GROUP_VERSION_FEATURE, 0, SAFE), ("nope", 1, UPGRADE)).error_code
    assert cluster.image.has_consumer_groups


def test_a_downgrade_to_a_newer_level_is_none() -> None:
    cluster = Cluster()
    finalize(cluster, GROUP_VERSION_FEATURE, 0)
    response = update(cluster, (GROUP_VERSION_FEATURE, 1, SAFE))
    assert (
        response.error_message is not None and "Can't downgrade to a newer version" in response.error_message
    )


def test_levels_that_a_broker_or_a_voter_does_not_know_are_refused() -> None:
    cluster = Cluster()
    finalize(cluster, GROUP_VERSION_FEATURE, 0)
    older = [
        RegisteredFeature(name=one.name, min_supported_version=one.lowest, max_supported_version=one.highest)
        for one in SUPPORTED
        if one.name != GROUP_VERSION_FEATURE
    ]
    cluster.registered(2, features=older)
    response = update(cluster, (GROUP_VERSION_FEATURE, 1, UPGRADE))
    assert response.error_message is not None
    assert response.error_message.endswith("Broker 2 does not support this feature.")
    voters = Cluster(
        node_id="1",
        listeners="PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9193",
        controller_quorum_voters="1@127.0.0.1:9193,2@127.0.0.1:9293",
    )
    response = update(voters, (GROUP_VERSION_FEATURE, 1, UPGRADE))
    assert response.error_message is not None
    assert response.error_message.endswith(
        "controller 2 has not registered, and may not support this feature"
    )


def test_metadata_versions_with_the_same_records_can_be_left_again() -> None:
    cluster = Cluster()
    assert update(cluster, (METADATA_VERSION_FEATURE, FIRST_WITH_ELR_RECORDS, SAFE)).error_code == 0
    assert cluster.image.metadata_version == FIRST_WITH_ELR_RECORDS
    assert update(cluster, (METADATA_VERSION_FEATURE, METADATA_VERSION, UPGRADE)).error_code == 0


def test_version_0_says_whether_a_downgrade_is_allowed() -> None:
    cluster = Cluster()

    def ask(*, allowed: bool) -> UpdateFeaturesResponse:
        wanted = FeatureUpdateKey(feature=GROUP_VERSION_FEATURE, max_version_level=0, allow_downgrade=allowed)
        request = UpdateFeaturesRequest(feature_updates=[wanted])
        return cluster.apply(cluster.controller.update_features(request, 0))

    assert ask(allowed=False).error_code == ErrorCode.INVALID_UPDATE_VERSION
    (result,) = ask(allowed=True).results
    assert (result.feature, result.error_code, result.error_message) == (GROUP_VERSION_FEATURE, 0, "NONE")


def test_a_feature_needs_the_metadata_version_that_has_its_records() -> None:
    cluster = Cluster()
    finalize(cluster, ELR_FEATURE, 0)
    finalize(cluster, METADATA_VERSION_FEATURE, WITHOUT_ELR)
    response = update(cluster, (ELR_FEATURE, 1, UPGRADE))
    assert response.error_message is not None
    assert f"it depends on metadata.version={FIRST_WITH_ELR_RECORDS}" in response.error_message
    both = ((ELR_FEATURE, 1, UPGRADE), (METADATA_VERSION_FEATURE, METADATA_VERSION, UPGRADE))
    assert update(cluster, *both).error_code == 0


def test_with_eligible_leaders_no_broker_has_a_min_isr_of_its_own() -> None:
    """KIP-966"""
    cluster = Cluster()
    finalize(cluster, ELR_FEATURE, 0)
    single = ConfigResource(ResourceType.BROKER, "1")
    value = ConfigRecord(
        resource_type=single.type, resource_name=single.name, name="min.insync.replicas", value="3"
    )
    cluster.apply(Decision([value], None))
    assert update(cluster, (ELR_FEATURE, 1, UPGRADE)).error_code == 0
    assert cluster.image.config(single) == {}


def test_without_eligible_leaders_they_are_in_sync_where_nobody_is() -> None:
    cluster = Cluster(brokers=2, min_insync_replicas="2")
    cluster.create(topic("orders", assignments={0: [1, 2]}))
    for _ in range(2):
        cluster.clock.ms += 2_000
        cluster.beat(2)
    cluster.clock.ms += 3_000
    cluster.apply(cluster.controller.fence_expired())
    cluster.clock.ms += 60_000
    cluster.apply(cluster.controller.fence_expired())
    before = cluster.image.topics["orders"].partitions[0]
    assert (before.leader, before.isr) == (NO_LEADER, ()) and before.elr
    assert update(cluster, (ELR_FEATURE, 0, SAFE)).error_code == 0
    after = cluster.image.topics["orders"].partitions[0]
    assert (after.isr, after.elr, after.last_known_elr) == (before.elr, (), ())


def test_kraft_version_is_the_quorums_and_in_no_record() -> None:
    assert "kraft.version" in {one.name for one in SUPPORTED}
    assert "kraft.version" not in Cluster().image.features
