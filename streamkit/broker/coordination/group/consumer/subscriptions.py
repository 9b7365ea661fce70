"""What a group wants today: its regular expressions as topics, and whether those are still the same."""

from __future__ import annotations

from streamkit.broker.coordination.group.cluster import metadata_hash
from streamkit.broker.coordination.group.consumer.group import ConsumerDraft
from streamkit.broker.coordination.group.consumer.records import (
    GroupMetadataValue,
    RegexChange,
    RegularExpressionValue,
)
from streamkit.broker.coordination.group.vocabulary import RebalanceReason
from streamkit.broker.regular_expression import Pattern


def refresh(draft: ConsumerDraft, reason: RebalanceReason | None) -> None:
    """Begin an epoch if there is a reason to, or if the topics that the group wants have changed."""
    soft = draft.group.soft
    if reason is None and not soft.topics_changed:
        return
    if _resolve(draft, everything=soft.topics_changed):
        reason = reason or RebalanceReason.TOPICS_CHANGED
    soft.topics_changed = False
    current_hash = metadata_hash(draft.group.cluster, draft.group.subscribers)
    if current_hash != draft.group.metadata_hash:
        reason = reason or RebalanceReason.TOPICS_CHANGED
    if reason is not None:
        value = GroupMetadataValue(epoch=draft.group.epoch + 1, metadata_hash=current_hash)
        draft.begin_epoch(value, reason)


def _resolve(draft: ConsumerDraft, *, everything: bool) -> bool:
    """Look up what the members' regular expressions mean; whether any means something else than before."""
    group, at = draft.group, draft.decision.at
    used = dict.fromkeys(member.regex for member in group.members.values() if member.regex)
    changed = False
    for regex in used:
        before = group.regexes.get(regex)
        if before is not None and not everything:
            continue
        topics = Pattern(regex).matching(group.cluster.topic_names())
        if before is None or before.topics != topics:
            value = RegularExpressionValue(topics=topics, timestamp=at.wall_ms)
            draft.write(RegexChange(group.group_id, regex, value))
            changed = True
    for regex in list(draft.group.regexes):
        if regex not in used:
            draft.write(RegexChange(group.group_id, regex, None))
    return changed
