"""Committed offsets of groups of every kind: commits, in transactions or not, reading, deleting, expiry.

Topics are known by name here: whoever speaks with clients translates ids and sorts out topics that do not
exist.
"""

from __future__ import annotations

from typing import Final

from streamkit.broker.coordination.group.groups import Groups, delete_records
from streamkit.broker.coordination.group.offsets import OffsetLimits, commit_offsets
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.transactional_commit import (
    as_offset_commit,
    as_transactional,
    claims_membership,
    refusal_in_transaction,
    unstable,
)
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Instant, Producer, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from streamkit.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from streamkit.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest

MEMBER_EPOCH_ON_COMMIT_VERSION = 9
MINUTE_MS = 60_000
EXPIRY: Final = Timer("expiry")


class OffsetRequests:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def commit(self, request: OffsetCommitRequest, version: int, token: Token, decision: Decision) -> None:
        """A commit without a generation makes a simple group of a name that is not in use."""
        try:
            self._check_commit(request, version, decision)
        except Refusal as refusal:
            decision.reply(token, refused_commit(request, refusal.code))
            return
        records, response = commit_offsets(request, decision.at.wall_ms, self._limits())
        decision.records += records
        decision.reply(token, response)

    def commit_in_transaction(
        self, request: TxnOffsetCommitRequest, token: Token, decision: Decision
    ) -> None:
        """A producer commits what it consumed; a version that tells no membership is not asked for it."""
        commit = as_offset_commit(request)
        try:
            if claims_membership(request):
                self._check_commit(commit, MEMBER_EPOCH_ON_COMMIT_VERSION, decision)
        except Refusal as refusal:
            decision.reply(token, as_transactional(refused_commit(commit, refusal_in_transaction(refusal))))
            return
        records, response = commit_offsets(commit, decision.at.wall_ms, self._limits())
        decision.records += records
        decision.transaction = Producer(request.producer_id, request.producer_epoch)
        decision.reply(token, as_transactional(response))

    def _check_commit(self, request: OffsetCommitRequest, version: int, decision: Decision) -> None:
        knows_member_epochs = version >= MEMBER_EPOCH_ON_COMMIT_VERSION
        group = self._groups.get(request.group_id)
        if group is not None:
            group.check_commit(_claim(request, knows_member_epochs=knows_member_epochs), decision)
        elif request.generation_id_or_member_epoch >= 0:
            raise Refusal(
                ErrorCode.GROUP_ID_NOT_FOUND if knows_member_epochs else ErrorCode.ILLEGAL_GENERATION
            )

    def fetch(
        self,
        request: OffsetFetchRequestGroup,
        token: Token,
        decision: Decision,
        *,
        require_stable: bool = False,
    ) -> None:
        group = self._groups.get(request.group_id)
        try:
            if group is not None:
                group.check_fetch(request.member_id, request.member_epoch)
        except Refusal as refusal:
            code = refusal.code
            decision.reply(token, OffsetFetchResponseGroup(group_id=request.group_id, error_code=code))
            return
        found = self._groups.offsets.fetch(request)
        decision.reply(token, unstable(found, self._groups.transactional) if require_stable else found)

    def delete(self, request: OffsetDeleteRequest, token: Token, decision: Decision) -> None:
        try:
            group = self._groups.get(request.group_id)
            if group is None:
                raise Refusal(ErrorCode.GROUP_ID_NOT_FOUND)
            group.check_delete_offsets()
        except Refusal as refusal:
            decision.reply(token, OffsetDeleteResponse(error_code=refusal.code))
            return
        records, response = self._groups.offsets.delete(request, group)
        decision.records += records
        decision.reply(token, response)

    def forget_topics(self, topics: frozenset[str], decision: Decision) -> None:
        """Topics were deleted: their offsets must not meet others that are created under these names."""
        decision.records += self._groups.offsets.tombstones_of_topics(topics)

    # ── expiry ─────────────────────────────────────────────────────────────────────────────────────────

    def expire(self, decision: Decision) -> None:
        """Delete offsets whose retention has passed, and empty groups that have none left."""
        limits, offsets = self._limits(), self._groups.offsets
        for group in self._groups.by_id.values():
            if self._groups.transactional.has_group(group.group_id) or isinstance(group, ShareGroup):
                continue
            expired = offsets.expired(group, decision.at.wall_ms, limits)
            decision.records += expired
            has_others = len(offsets.of(group.group_id)) > len(expired)
            if group.is_empty and group.is_recorded and not has_others:
                delete_records(group, decision)
        self.schedule_expiry(decision.at)

    def schedule_expiry(self, at: Instant) -> None:
        interval_ms = self._groups.config.offsets_retention_check_interval_ms
        self._groups.deadlines.set(EXPIRY, at.monotonic_ms + interval_ms)

    def _limits(self) -> OffsetLimits:
        config = self._groups.config
        return OffsetLimits(
            metadata_max_length=config.offset_metadata_max_bytes,
            retention_ms=config.offsets_retention_minutes * MINUTE_MS,
        )


def _claim(request: OffsetCommitRequest, *, knows_member_epochs: bool) -> CommitClaim:
    places = [
        (topic, partition.partition_index) for topic in request.topics for partition in topic.partitions
    ]
    return CommitClaim(
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        epoch=request.generation_id_or_member_epoch,
        partitions=[(topic.topic_id, index) for topic, index in places],
        named_partitions=[(topic.name, index) for topic, index in places],
        knows_member_epochs=knows_member_epochs,
    )


def refused_commit(request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    """OffsetCommit has no error for the whole request: each partition carries it."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
