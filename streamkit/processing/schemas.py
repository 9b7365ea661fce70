"""Topics whose schemas live in a registry: Avro, Protobuf and JSON Schema in Confluent's wire format.

    app = sk.App("shop", schema_registry="http://localhost:8081")
    app.topic("orders", value=sk.Avro(Order))              # the schema follows from the class
    app.topic("prices", value=sk.Avro(schema=AVSC))        # dicts, by the schema that somebody wrote
    app.topic("moves", value=sk.Protobuf(moves_pb2.Move))
    app.topic("clicks", value=sk.JsonSchema(Click))

A format belongs to a topic: the subject of its schema follows from the topic's name. What the app keeps for
itself (stores, repartition topics) is written without a registry, by `Serde.within`: nobody else reads it,
and a registry hears of no topic that the app only reads. `STREAMKIT_SCHEMA_REGISTRY` wins over the app's URL.

Here is what is wanted. `kafka.schema_registry` carries it out by confluent-kafka's own clients and
serializers, and puts an `Engine` into each `Codec` while the app runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

import msgspec

from streamkit.errors import RefusedError, UsageError
from streamkit.processing.avro_schema import avro_schema
from streamkit.processing.serde import JSON, Serde, key_serde, value_serde

if TYPE_CHECKING:
    from streamkit.processing.topology import TopicSpec, Topology

T = TypeVar("T")
Kind = Literal["Avro", "Protobuf", "JsonSchema"]
Part = Literal["key", "value"]
Subject = Literal["topic", "record", "topic-record"] | Callable[[Any, str | None], str | None]
SchemaGiven = str | Mapping[str, Any] | object | None  # its text, its JSON, or confluent's own `Schema`
SUBJECTS = ("topic", "record", "topic-record")


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a user says of a topic's keys or values. `type=None`: dicts. `schema=None`: that of the writer."""

    kind: Kind
    type: Any
    schema: Any  # text, or confluent's own `Schema`, which may refer to others
    derived: bool  # does the schema follow from the type?
    auto_register: bool
    use_latest: bool
    subject: Subject
    config: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A format at work, against one registry."""

    def encode(self, value: Any) -> bytes: ...
    def decode(self, data: bytes) -> Any: ...
    def decode_arrival(self, data: bytes) -> Any:
        """Raises NotYetError rather than wait for the registry."""
        ...

    def keep(self, value: Any) -> bytes:
        """Write it without the registry, by the format's own schema."""
        ...

    def kept(self, data: bytes) -> Any: ...
    async def ready(self) -> None:
        """The registry has the schema that `encode` writes by. Raises RefusedError."""
        ...


class Codec:
    """The keys or values of one topic in a format. It works while the app runs, or is tested."""

    def __init__(self, format: Format, topic: str = "", part: Part = "value") -> None:
        self.format = format
        self.topic = topic
        self.part = part
        self.engine: Engine | None = None

    @property
    def running(self) -> Engine:
        if self.engine is None:
            raise RefusedError(
                f"the {self.part}s of {self.topic or 'no topic'} are sk.{self.format.kind}: "
                "they are read and written while the app runs",
                hint="use it in app.test(), in a worker, or inside `async with app:`",
            )
        return self.engine

    def encode(self, value: Any) -> bytes:
        return self.running.encode(value)

    def decode(self, data: bytes) -> Any:
        return self.running.decode(data)

    def decode_arrival(self, data: bytes) -> Any:
        return self.running.decode_arrival(data)

    def keep(self, value: Any) -> bytes:
        return self.running.keep(value)

    def kept(self, data: bytes) -> Any:
        return self.running.kept(data)


class RegistrySerde(Serde[T], Generic[T], frozen=True, kw_only=True):
    """The serde of a topic with a schema registry."""

    codec: Codec


class Schemas:
    """The formats of an app's topics. `registry`: its URL, confluent's settings of a client, or a client."""

    def __init__(self, registry: str | Mapping[str, Any] | object | None) -> None:
        self.registry = registry
        self.codecs: list[Codec] = []

    def of_value(self, declared: Any, topic: str) -> Serde[Any]:
        return self._placed(declared, topic, "value") or value_serde(declared)

    def of_key(self, declared: Any, topic: str) -> Serde[Any]:
        return self._placed(declared, topic, "key") or key_serde(declared)

    def _placed(self, declared: Any, topic: str, part: Part) -> Serde[Any] | None:
        if not isinstance(declared, RegistrySerde):
            return None
        codec = Codec(declared.codec.format, topic, part)
        self.codecs.append(codec)
        return _serde(codec)


async def ready(topic: TopicSpec[Any, Any]) -> None:
    """Records may be encoded without waiting for a registry. Raises RefusedError where it objects."""
    for serde in (topic.key, topic.value):
        if isinstance(serde, RegistrySerde):
            await serde.codec.running.ready()


def written(topology: Topology) -> frozenset[str]:
    """The declared topics that the app writes, as far as can be known: its sinks, and what nothing reads."""
    read = {entry.reads for sub in topology.subtopologies() for entry in sub.entries}
    read |= {table.topic.name for table in topology.global_tables}
    sinks = {topic for node in topology.nodes for topic in node.writes}
    return frozenset(spec.name for spec in topology.topics if spec.name in sinks or spec.name not in read)


class FormatOptions(TypedDict, total=False):
    """`auto_register`: the schema is registered before anything is written by it (the default, unless
    `use_latest`); False: it must be registered already. `use_latest`: write by the subject's latest schema.
    `subject`: the name strategy, or a function of confluent's SerializationContext and the record's name.
    `config`: more settings of confluent's serializer and deserializer, by their names.
    """

    auto_register: bool | None
    use_latest: bool
    subject: Subject
    config: Mapping[str, Any] | None


@overload
def Avro(
    type: type[T], *, schema: SchemaGiven = None, namespace: str = "", **options: Unpack[FormatOptions]
) -> Serde[T]: ...
@overload
def Avro(*, schema: SchemaGiven = None, **options: Unpack[FormatOptions]) -> Serde[Any]: ...
def Avro(
    type: Any = None, *, schema: SchemaGiven = None, namespace: str = "", **options: Unpack[FormatOptions]
) -> Serde[Any]:
    """Avro. `type`: a Struct, dataclass, TypedDict or pydantic model; without it values are dicts.

    Without `schema` that of the type is written, and records are read by their writer's schema and then
    fitted into the type: what the writer did not have gets the class's default. With `schema` it is the
    reader's too. `sk.Avro()` reads any record as a dict; with `use_latest` it writes as well. What the others
    mean stands at `FormatOptions`.
    """
    derived = avro_schema(type, namespace) if schema is None and type is not None else None
    return _declared("Avro", type, schema, derived, **options)


def Protobuf(message: type[T], **options: Unpack[FormatOptions]) -> Serde[T]:
    """Protobuf: `message` is a class that protoc generated."""
    if not hasattr(message, "DESCRIPTOR"):
        raise UsageError(f"{message!r} is no Protobuf message", hint="take a class of a *_pb2 module")
    return _declared("Protobuf", message, None, None, **options)


@overload
def JsonSchema(
    type: type[T], *, schema: SchemaGiven = None, **options: Unpack[FormatOptions]
) -> Serde[T]: ...
@overload
def JsonSchema(*, schema: SchemaGiven = None, **options: Unpack[FormatOptions]) -> Serde[Any]: ...
def JsonSchema(
    type: Any = None, *, schema: SchemaGiven = None, **options: Unpack[FormatOptions]
) -> Serde[Any]:
    """JSON with a schema. Values of a `type` are checked by the type; dicts, both ways, by the `schema`."""
    derived = _json_schema(type) if schema is None and type is not None else None
    return _declared("JsonSchema", type, schema, derived, **options)


def _declared(
    kind: Kind,
    type: Any,
    schema: Any,
    derived: Any,
    *,
    auto_register: bool | None = None,
    use_latest: bool = False,
    subject: Subject = "topic",
    config: Mapping[str, Any] | None = None,
) -> Serde[Any]:
    if auto_register and use_latest:
        raise UsageError(
            "use_latest writes by a schema that others registered; auto_register registers one",
            hint="take one of the two",
        )
    if not callable(subject) and subject not in SUBJECTS:
        raise UsageError(f"{subject!r} is no subject name strategy", hint=f"one of {', '.join(SUBJECTS)}")
    format = Format(
        kind=kind,
        type=type,
        schema=_text(schema if derived is None else derived),
        derived=derived is not None,
        auto_register=not use_latest if auto_register is None else auto_register,
        use_latest=use_latest,
        subject=subject,
        config=dict(config or {}),
    )
    return _serde(Codec(format))


def _serde(codec: Codec) -> RegistrySerde[Any]:
    inner = _inner(codec)
    return RegistrySerde(
        name=inner.name,
        encode=codec.encode,
        decode=codec.decode,
        decode_arrival=codec.decode_arrival,
        nullable=codec.format.type is None,
        inner=inner,
        codec=codec,
    )


def _inner(codec: Codec) -> Serde[Any]:
    """The same values without a registry: as JSON where their class can say so."""
    kind, type, schema = codec.format.kind, codec.format.type, codec.format.schema
    if kind == "Protobuf":
        name = f"protobuf:{type.DESCRIPTOR.full_name}"
        return Serde(name, lambda message: message.SerializeToString(deterministic=True), type.FromString)
    if type is not None:
        plain = value_serde(type)
        return msgspec.structs.replace(plain, name=f"{plain.name} as {kind}")
    if kind == "JsonSchema":
        return msgspec.structs.replace(JSON, name="json as JsonSchema")
    digest = hashlib.sha256(repr(schema).encode()).hexdigest()[:8]
    return Serde(f"avro:{digest}", codec.keep, codec.kept, nullable=True)


def _text(schema: Any) -> Any:
    """A schema as its registry stores it; confluent's own objects as they are."""
    if isinstance(schema, Mapping | list) or (isinstance(schema, str) and schema.isidentifier()):
        return _as_text(schema)
    return schema


def _json_schema(type: Any) -> dict[str, Any]:
    if hasattr(type, "model_json_schema"):
        return dict(type.model_json_schema())
    try:
        (schema,), parts = msgspec.json.schema_components([type], ref_template="#/$defs/{name}")
    except TypeError as error:
        raise UsageError(
            f"no JSON Schema for {type!r}: {error}", hint="write it yourself: sk.JsonSchema(..., schema=...)"
        ) from None
    root = schema.get("$ref", "").rpartition("/")[2]
    if root:  # registries compare what stands at the top
        schema = parts[root] if f'"#/$defs/{root}"' in _as_text(parts) else parts.pop(root)
    return {"title": getattr(type, "__name__", "value"), **schema, **({"$defs": parts} if parts else {})}


def _as_text(schema: Any) -> str:
    return msgspec.json.encode(schema).decode()
