"""Confluent's own serializers over one registry: what others use, and the judge of what we write and read."""

from __future__ import annotations

import json
from typing import Any

from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}
ORDER = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "namespace": "shop",
        "fields": [
            {"name": "product", "type": "string"},
            {"name": "amount", "type": "double"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "colour", "type": "string"},  # which ours does not know
        ],
    }
)
CLICK = json.dumps(
    {
        "title": "Click",
        "type": "object",
        "properties": {"page": {"type": "string"}, "ms": {"type": "integer"}},
        "required": ["page"],
    }
)


def in_memory() -> Any:
    return SchemaRegistryClient.new_client({"url": "mock://tests"})


def context(topic: str, part: str = MessageField.VALUE) -> SerializationContext:
    return SerializationContext(topic, part)


class Theirs:
    """Writes and reads the values of topics, as any producer or consumer of others does."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def avro(self, topic: str, value: Any, schema: str = ORDER) -> bytes:
        return AvroSerializer(self.client, schema, conf=BY_TOPIC)(value, context(topic))

    def from_avro(self, topic: str, data: bytes) -> Any:
        return AvroDeserializer(self.client, conf=BY_TOPIC)(data, context(topic))

    def json(self, topic: str, value: Any, schema: str = CLICK) -> bytes:
        return JSONSerializer(schema, self.client, conf=BY_TOPIC)(value, context(topic))

    def from_json(self, topic: str, data: bytes) -> Any:
        return JSONDeserializer(None, None, self.client, conf=BY_TOPIC)(data, context(topic))

    def protobuf(self, topic: str, message: Any) -> bytes:
        return ProtobufSerializer(type(message), self.client, BY_TOPIC)(message, context(topic))

    def from_protobuf(self, topic: str, data: bytes, message: Any) -> Any:
        return ProtobufDeserializer(message, BY_TOPIC, self.client)(data, context(topic))


def _move() -> Any:
    """What protoc makes of the second message in a file: `message Move { string unit; int32 x; }`."""
    file = descriptor_pb2.FileDescriptorProto(name="game.proto", package="game", syntax="proto3")
    file.message_type.add(name="Unit").field.add(name="name", number=1, type=9, label=1)
    move = file.message_type.add(name="Move")
    move.field.add(name="unit", number=1, type=9, label=1)
    move.field.add(name="x", number=2, type=5, label=1)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("game.Move"))


Move = _move()
