"""The binding of `schemas` to a registry, by confluent-kafka's own clients and serializers.

Their serializers know the wire format; what a class's values are to them stands here, and what an app is told
where something does not fit. They ask the registry through a `registry_memory`.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import importlib
import io
import math
import os
import re
import uuid
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any

import msgspec
import orjson
import structlog

from streamkit.errors import RefusedError, StreamkitError, UsageError
from streamkit.processing.kafka.registry_memory import URL, Memory, Prompt, Waiting, status_of
from streamkit.processing.schemas import Codec, Format, Kind, Schemas

CLIENT = {"timeout": 10, "max.retries": 0}  # the memory tries again, where it can be logged and ended
EXTRAS: dict[Kind, str] = {"Avro": "avro", "Protobuf": "protobuf", "JsonSchema": "jsonschema"}
MODULES: dict[Kind, str] = {"Avro": "avro", "Protobuf": "protobuf", "JsonSchema": "json_schema"}
SUBJECT = "subject.name.strategy"
# What fastavro takes as it is.
AVRO_VALUES = (bytes, datetime.datetime, datetime.date, datetime.time, uuid.UUID)

log = structlog.get_logger("worker.schemas")


class Probe(Exception):
    """The serializer has what it needs of the registry, and turns to the value."""


PROBE = object()


class Work:
    """A codec's `Engine`: confluent's serializer and deserializers for one topic."""

    def __init__(self, codec: Codec, memory: Memory, *, in_memory: bool = False) -> None:
        self._codec = codec
        self._in_memory = in_memory  # nothing ever waits
        self._format = codec.format
        self._module = _module(codec.format.kind)
        self._context = _context(codec)
        self._strategy = _strategy(codec.format)
        self._ready = False
        self.subject: str | None = None  # where the schema was looked for last
        self._settings: set[str] = set()  # that one of them has
        waiting = Waiting(memory)
        try:
            self._serializer = self._make_serializer(waiting)
            self._deserializer = self._make_deserializer(waiting)
            self._prompt = self._make_deserializer(waiting if in_memory else Prompt(memory))
        except StreamkitError:
            raise
        except Exception as error:
            raise UsageError(f"{self._what} cannot be used: {error}") from error
        unknown = codec.format.config.keys() - self._settings
        if unknown:
            known = ", ".join(sorted(self._settings))
            raise UsageError(f"{self._what}: no such setting: {min(unknown)}", hint=f"there are {known}")

    # -- Engine ---------------------------------------------------------------------------------------

    def encode(self, value: Any) -> bytes:
        try:
            data: bytes = self._serializer(value, self._context)
        except Exception as error:
            if status_of(error) is None:
                raise
            raise self._refused(error) from error
        return data

    def decode(self, data: bytes) -> Any:
        return self._deserializer(data, self._context)

    def decode_arrival(self, data: bytes) -> Any:
        return self._prompt(data, self._context)

    def keep(self, value: Any) -> bytes:
        fastavro = importlib.import_module("fastavro")
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._own_schema, value)
        data: bytes = out.getvalue()
        return data

    def kept(self, data: bytes) -> Any:
        fastavro = importlib.import_module("fastavro")
        return fastavro.schemaless_reader(io.BytesIO(data), self._own_schema, None)

    async def ready(self) -> None:
        if self._in_memory:
            self.prepare()
        elif not self._ready:
            await asyncio.to_thread(self.prepare)

    def prepare(self) -> None:
        """Let the serializer ask what it needs to know. Blocks."""
        if self._ready:
            return
        if self._format.kind != "Protobuf" and self._format.schema is None and not self._format.use_latest:
            raise UsageError(
                f"{self._what} is not known, and they are written",
                hint=f"sk.{self._format.kind}(Type), or schema=..., or use_latest=True",
            )
        try:
            if self._format.kind == "Protobuf":
                self._prepare_protobuf()
            else:
                self._serializer(PROBE, self._context)
        except Probe:
            pass
        except Exception as error:
            if status_of(error) is None:
                raise
            raise self._refused(error) from error
        self._ready = True
        log.info("schema ready", topic=self._codec.topic, subject=self.subject)

    # -- inside ---------------------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        return f"the {self._format.kind} schema of {self._codec.topic} ({self._codec.part}s)"

    def _make_serializer(self, client: Any) -> Any:
        format, module = self._format, self._module
        conf = {
            "auto.register.schemas": format.auto_register,
            "use.latest.version": format.use_latest,
            SUBJECT: self._subject_of,
        }
        if format.kind == "Avro":
            return module.AvroSerializer(
                client, format.schema, self._as_avro(), self._conf(module.AvroSerializer, conf)
            )
        if format.kind == "JsonSchema":
            conf["validate"] = format.type is None
            cls = module.JSONSerializer
            return cls(
                format.schema, client, self._as_json(), self._conf(cls, conf), json_encode=orjson.dumps
            )
        return module.ProtobufSerializer(format.type, client, self._conf(module.ProtobufSerializer, conf))

    def _make_deserializer(self, client: Any) -> Any:
        format, module = self._format, self._module
        conf: dict[str, Any] = {SUBJECT: self._subject_of}
        if format.kind == "Avro":
            reader = None if format.derived else format.schema
            cls = module.AvroDeserializer
            return cls(client, reader, self._from_dict(), conf=self._conf(cls, conf))
        if format.kind == "JsonSchema":
            conf["validate"] = format.type is None
            cls = module.JSONDeserializer
            return cls(
                format.schema, self._from_dict(), client, self._conf(cls, conf), json_decode=orjson.loads
            )
        cls = module.ProtobufDeserializer
        return cls(format.type, self._conf(cls, conf), client)

    def _conf(self, cls: Any, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Our settings, and those of the user's that this class has."""
        known = cls._default_conf
        conf = {**ours, **{name: value for name, value in self._format.config.items() if name in known}}
        self._settings |= known.keys()
        if "subject.name.strategy.type" in self._format.config:
            del conf[SUBJECT]  # it would win
        return conf

    def _subject_of(self, context: Any, record: str | None) -> str | None:
        self.subject = self._strategy(context, record)
        return self.subject

    def _as_avro(self) -> Callable[[Any, Any], Any]:
        type = self._format.type
        kept: tuple[Any, ...] = AVRO_VALUES
        if not self._format.derived:
            kept = (*AVRO_VALUES, decimal.Decimal, datetime.timedelta)
        model = hasattr(type, "model_dump")

        def as_avro(value: Any, _: Any) -> Any:
            if value is PROBE:
                raise Probe
            if type is None:
                return value
            if model and isinstance(value, type):
                value = value.model_dump(by_alias=True)
            return msgspec.to_builtins(value, builtin_types=kept)

        return as_avro

    def _as_json(self) -> Callable[[Any, Any], Any]:
        type = self._format.type
        model = hasattr(type, "model_dump")

        def as_json(value: Any, _: Any) -> Any:
            if value is PROBE:
                raise Probe
            if type is None:
                return value
            if model and isinstance(value, type):
                return value.model_dump(mode="json", by_alias=True)
            return msgspec.to_builtins(value)

        return as_json

    def _from_dict(self) -> Callable[[Any, Any], Any] | None:
        type = self._format.type
        if type is None:
            return None
        if hasattr(type, "model_validate"):
            return lambda value, _: type.model_validate(value)
        convert = msgspec.convert
        return lambda value, _: convert(value, type)

    def _prepare_protobuf(self) -> None:
        try:
            self._serializer(self._format.type(), self._context)
        except Exception as error:
            if type(error).__name__ != "EncodeError":  # an empty message that lacks what it requires
                raise

    @cached_property
    def _own_schema(self) -> Any:
        if self._format.schema is None:
            raise UsageError(
                f"{self._what} is its writers': what the app keeps of them needs one",
                hint="sk.Avro(Type), or sk.Avro(schema=...)",
            )
        schema = self._format.schema
        if isinstance(schema, str):
            schema = importlib.import_module("confluent_kafka.schema_registry").Schema(schema)
        return self._serializer._get_parsed_schema(schema)  # with those that it refers to

    def _refused(self, error: Exception) -> RefusedError:
        said = getattr(error, "error_message", error)
        place = f"subject {self.subject}" if self.subject else "its subject"
        hint = _next_step(self._format, status_of(error), self.subject)
        return RefusedError(f"the schema registry refuses {self._what}, {place}: {said}", hint=hint)


def _next_step(format: Format, status: int | None, subject: str | None) -> str:
    if status == 409:
        return "make the change compatible (a new field needs a default), or write to another topic"
    if status == 404 and not format.auto_register:
        return (
            f"register a schema under {subject} first, or let sk.{format.kind}(..., auto_register=True) do it"
        )
    return "see what the registry has: GET /subjects"


def _strategy(format: Format) -> Callable[[Any, str | None], str | None]:
    if callable(format.subject):
        return format.subject
    registry = importlib.import_module("confluent_kafka.schema_registry")
    found: Callable[[Any, str | None], str | None] = {
        "topic": registry.topic_subject_name_strategy,
        "record": registry.record_subject_name_strategy,
        "topic-record": registry.topic_record_subject_name_strategy,
    }[format.subject]
    return found


def _module(kind: Kind) -> Any:
    """Confluent's module of a format. Raises UsageError where what it needs is not installed."""
    try:
        return importlib.import_module(f"confluent_kafka.schema_registry.{MODULES[kind]}")
    except ImportError as error:
        raise UsageError(
            f"sk.{kind} needs packages that are not installed: {error}",
            hint=f"pip install 'streamkit-log[{EXTRAS[kind]}]'",
        ) from error


def _context(codec: Codec) -> Any:
    serialization = importlib.import_module("confluent_kafka.serialization")
    part = serialization.MessageField.KEY if codec.part == "key" else serialization.MessageField.VALUE
    return serialization.SerializationContext(codec.topic, part)


# -- opening ------------------------------------------------------------------------------------------


@contextmanager
def opened(schemas: Schemas, written: Container[str] = ()) -> Iterator[None]:
    """The app's formats at work against its registry; what `written` topics need is registered. Blocks.

    Raises UsageError where no registry is named or packages are absent, RefusedError where it objects.
    """
    if not schemas.codecs:
        yield
        return
    client, url, ttl_s = _client(schemas)
    memory = Memory(client, url, ttl_s)
    try:
        for codec in schemas.codecs:
            codec.engine = work = Work(codec, memory)
            if codec.topic in written:
                work.prepare()
        yield
    finally:
        memory.close()
        for codec in schemas.codecs:
            codec.engine = None


@asynccontextmanager
async def running(schemas: Schemas, written: Container[str] = ()) -> AsyncIterator[None]:
    """`opened`, without blocking the loop."""
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, opened(schemas, written))
        yield


@contextmanager
def imagined(schemas: Schemas) -> Iterator[Any]:
    """The app's formats over a registry in memory; its client (None where no topic needs one)."""
    if not schemas.codecs:
        yield None
        return
    _module(schemas.codecs[0].format.kind)
    registry = importlib.import_module("confluent_kafka.schema_registry")
    client = schemas.registry
    if type(client).__name__ != "MockSchemaRegistryClient":
        client = registry.SchemaRegistryClient.new_client({"url": "mock://streamkit"})
    memory = Memory(client, "mock://streamkit")
    try:
        for codec in schemas.codecs:
            codec.engine = Work(codec, memory, in_memory=True)
        yield client
    finally:
        for codec in schemas.codecs:
            codec.engine = None


def _client(schemas: Schemas) -> tuple[Any, str, float]:
    """A client, the registry's address, and how long a latest version is true."""
    _module(schemas.codecs[0].format.kind)
    registry, said = schemas.registry, os.environ.get(URL)
    if hasattr(registry, "get_schema"):
        return registry, "the given client", math.inf
    settings: dict[str, Any] = dict(registry) if isinstance(registry, Mapping) else {"url": registry}
    if said:
        settings["url"] = said
    if not settings.get("url"):
        codec = schemas.codecs[0]
        raise UsageError(
            f"the {codec.part}s of {codec.topic} are sk.{codec.format.kind}, and no schema registry is named",
            hint=f"App(schema_registry='http://...'), or {URL}",
        )
    url = _without_password(str(settings["url"]))
    confluent = importlib.import_module("confluent_kafka.schema_registry")
    try:
        client = confluent.SchemaRegistryClient.new_client({**CLIENT, **settings})
    except (TypeError, ValueError) as error:
        raise UsageError(f"the schema registry {url} cannot be used: {error}") from error
    ttl_s = settings.get("cache.latest.ttl.sec")
    return client, url, math.inf if ttl_s is None else float(ttl_s)


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url)
