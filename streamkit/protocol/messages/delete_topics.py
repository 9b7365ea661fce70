"""DeleteTopics: by name, or by id from version 6 (KIP-516)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, Uuid, nullable, schema, versions


class DeleteTopicState(Message):
    name: str | None = None
    topic_id: Uuid = ZERO_UUID


@schema("1-6", flexible="4+", key=20)
class DeleteTopicsRequest(Message):
    topics: Annotated[list[DeleteTopicState], versions("6+")] = []
    topic_names: Annotated[list[str], versions("0-5")] = []
    timeout_ms: Int32 = 0


class DeletableTopicResult(Message):
    name: Annotated[str | None, nullable("6+")] = ""
    topic_id: Annotated[Uuid, versions("6+")] = ZERO_UUID
    error_code: Int16 = 0
    error_message: Annotated[str | None, versions("5+")] = None


@schema("1-6", flexible="4+", key=20)
class DeleteTopicsResponse(Message):
    throttle_time_ms: Int32 = 0
    responses: list[DeletableTopicResult] = []
