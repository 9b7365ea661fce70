"""Metadata responses, kept encoded.

Every client refreshes its metadata, all of them for the same topics and most of the time with nothing new;
with many partitions one answer takes milliseconds to build and encode. So the bytes after the header are
kept until the image changes. What names unknown topics is not kept, because a client could make up any
number of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from streamkit.broker.controller.image import MetadataImage, TopicImage
from streamkit.broker.server.authorized_operations import CLUSTER, NOT_ASKED
from streamkit.broker.server.cluster.cluster_view import ClusterView
from streamkit.protocol.codec import encode
from streamkit.protocol.messages.metadata import MetadataResponse, MetadataResponseTopic

NO_CONTROLLER: Final = -1
MAX_KEPT_BYTES: Final = 16 * 1024 * 1024


class Question(NamedTuple):
    """What an answer depends on, beside the image. `topics` of None asks for all."""

    version: int
    listener: str
    topics: tuple[str, ...] | None
    topic_operations: bool
    cluster_operations: bool


class MetadataAnswers:
    """The answers to known topics' questions, at the image's present offset."""

    def __init__(
        self,
        image: MetadataImage,
        *,
        cluster_id: str,
        leader_id: Callable[[], int | None],
        departed: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        """`leader_id` is the node that decides, as far as it is known; `departed` are brokers that are still
        told although they are gone.
        """
        self._image = image
        self._cluster_id = cluster_id
        self._leader_id = leader_id
        self._departed = departed
        self._epoch: tuple[int, int, tuple[int, ...]] = -1, -1, ()
        self._kept: dict[Question, bytes] = {}
        self._kept_bytes = 0

    @property
    def controller_id(self) -> int:
        """The broker that clients bring their changes to. Any of them passes these on to whoever decides,
        which may be no broker or not be known, and clients refuse a controller that is no broker.
        """
        leader_id = self._leader_id()
        if leader_id is not None and self._image.is_live(leader_id):
            return leader_id
        return min((broker.broker_id for broker in self._image.live_brokers()), default=NO_CONTROLLER)

    def encoded(self, question: Question) -> bytes:
        """The body of the response to a question that names existing topics only."""
        epoch = self._image.offset, self.controller_id, self._departed()
        if self._epoch != epoch or self._kept_bytes > MAX_KEPT_BYTES:
            self._kept.clear()
            self._kept_bytes = 0
            self._epoch = epoch
        kept = self._kept.get(question)
        if kept is None:
            kept = self._kept[question] = encode(self.response(question, ()), question.version)
            self._kept_bytes += len(kept)
        return kept

    def response(self, question: Question, refused: Sequence[MetadataResponseTopic]) -> MetadataResponse:
        """The response that tells the question's existing topics, and `refused` behind them."""
        view = ClusterView(self._image, question.listener)
        return MetadataResponse(
            brokers=view.metadata_brokers(self._departed()),
            cluster_id=self._cluster_id,
            controller_id=self.controller_id,
            topics=[
                *(
                    view.metadata_topic(topic, question.version, operations=question.topic_operations)
                    for topic in self._topics(question.topics)
                ),
                *refused,
            ],
            cluster_authorized_operations=CLUSTER if question.cluster_operations else NOT_ASKED,
        )

    def _topics(self, names: tuple[str, ...] | None) -> list[TopicImage]:
        topics = self._image.topics
        return list(topics.values()) if names is None else [topics[name] for name in names]
