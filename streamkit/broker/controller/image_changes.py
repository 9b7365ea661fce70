"""What is different between two images: for a node that missed the records between them.

A node that was away for long gets a snapshot in place of the records, and those who follow the image on it
must still hear what changed.
"""

from __future__ import annotations

from streamkit.broker.controller.image import MetadataChanges, MetadataImage, TopicImage


def changes_between(before: MetadataImage, after: MetadataImage) -> MetadataChanges:
    """As if every record had been replayed; a topic deleted and made anew is both."""
    changes = MetadataChanges()
    changes.deleted = [
        topic for topic_id, topic in before.topics_by_id.items() if topic_id not in after.topics_by_id
    ]
    for topic_id, topic in after.topics_by_id.items():
        known = before.topics_by_id.get(topic_id)
        if known is None:
            changes.created.append(topic)
        _note_partitions(changes, known, topic)
    changes.configs = {
        resource
        for resource in before.configs.keys() | after.configs.keys()
        if before.config(resource) != after.config(resource)
    }
    changes.brokers = {
        broker_id
        for broker_id in before.brokers.keys() | after.brokers.keys()
        if before.brokers.get(broker_id) != after.brokers.get(broker_id)
    }
    return changes


def _note_partitions(changes: MetadataChanges, before: TopicImage | None, after: TopicImage) -> None:
    known = [] if before is None else before.partitions
    for index, partition in enumerate(after.partitions):
        if index >= len(known):
            changes.new_partitions.append((after, index))
        elif known[index] != partition:
            changes.changed_partitions.append((after, index))
