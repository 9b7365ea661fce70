"""Our codec against kio's, which is generated from the same specifications by other people.

For every message class and version that we speak: the fields are the same in the same order, our bytes are
kio's bytes, kio reads ours and we read kio's.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import sys
from functools import cache
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.schema.request_header.v1.header import RequestHeader as KioRequestHeader1
from kio.schema.request_header.v2.header import RequestHeader as KioRequestHeader2
from kio.serial import entity_reader, entity_writer

from streamkit.protocol.api import APIS, Api
from streamkit.protocol.codec import decode, encode
from streamkit.protocol.compiler.source import on_wire
from streamkit.protocol.framing import decode_request, encode_request
from streamkit.protocol.schema import ZERO_UUID, Array, Field, Message
from tests.protocol.samples import PAIRS, messages, pair_id, sample

EVERYDAY_EXAMPLES = 4
SLOW_EXAMPLES = 60
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@cache
def kio_class(cls: type[Message], version: int) -> Any:
    load = load_request_schema if cls is APIS[cls.KEY].request else load_response_schema
    return load(cls.KEY, version)


def kio_bytes(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def fields_side_by_side(ours: type[Message], version: int, theirs: Any) -> list[tuple[Field, Any]]:
    """Our fields with kio's, which drops the unit of times (`max_wait_ms` is `max_wait`) and says `id_`."""
    inline, tagged = on_wire(ours, version)
    mine = {field.name.removesuffix("_ms"): field for field in (*inline, *tagged)}
    other = {field.name.removesuffix("_").removesuffix("_ms"): field for field in dataclasses.fields(theirs)}
    assert sorted(mine) == sorted(other)
    assert [name for name in mine if mine[name].tag is None] == [
        name for name in other if "tag" not in other[name].metadata
    ]
    assert {name: field.tag for name, field in mine.items()} == {
        name: field.metadata.get("tag") for name, field in other.items()
    }
    return [(mine[name], other[name]) for name in mine]


def to_kio(message: Message, version: int, theirs: Any) -> Any:
    return theirs(
        **{
            their_field.name: value_to_kio(getattr(message, field.name), version, their_field)
            for field, their_field in fields_side_by_side(type(message), version, theirs)
        }
    )


def value_to_kio(value: Any, version: int, field: Any) -> Any:
    match value:
        case Message():
            return to_kio(value, version, nested_class(field.type))
        case [*items]:
            return tuple(value_to_kio(item, version, field) for item in items)
        case _:
            return primitive_to_kio(value, field.metadata.get("kafka_type"))


def nested_class(annotation: Any) -> Any:
    """The entity class inside of `tuple[Entity, ...]`, `Entity | None` and the like, or None."""
    if dataclasses.is_dataclass(annotation):
        return annotation
    return next(filter(None, map(nested_class, get_args(annotation))), None)


def primitive_to_kio(value: Any, kafka_type: str | None) -> Any:
    match kafka_type:
        case "error_code":
            return KioErrorCode(value)
        case "uuid":
            return None if value == ZERO_UUID else UUID(bytes=value)
        case "timedelta_i32" | "timedelta_i64":
            return datetime.timedelta(milliseconds=value)
        case "datetime_i64":
            return None if value == -1 else EPOCH + datetime.timedelta(milliseconds=value)
        case _:
            return value


def narrower(cls: type[Message], version: int) -> dict[str, st.SearchStrategy[Any]]:
    """Strategies for the fields in which kio's Python types hold less than the wire does."""
    narrow: dict[str, st.SearchStrategy[Any]] = {}
    todo = [(cls, kio_class(cls, version))]
    while todo:
        ours, theirs = todo.pop()
        for field, their_field in fields_side_by_side(ours, version, theirs):
            nested = nested_class(their_field.type)
            if nested is not None:
                todo.append((nested_message(field), nested))
            match their_field.metadata.get("kafka_type"):
                case "timedelta_i64":
                    narrow[field.name] = st.integers(-(1 << 50), 1 << 50)
                case "datetime_i64":
                    times = st.integers(0, 1 << 33).map(lambda seconds: seconds * 1000)
                    narrow[field.name] = st.just(-1) | times if may_be_none(their_field) else times
                case "records" if not may_be_none(their_field):
                    narrow[field.name] = st.binary(max_size=300)
                case "uuid" if isinstance(field.wire, Array) and may_be_none(their_field):
                    narrow[field.name] = st.lists(st.binary(min_size=16, max_size=16), max_size=2)
    return narrow


def may_be_none(field: Any) -> bool:
    return type(None) in get_args(field.type)


def nested_message(field: Field) -> type[Message]:
    wire = field.wire
    while not hasattr(wire, "cls"):
        wire = wire.element  # type: ignore[union-attr]
    return wire.cls


def check(cls: type[Message], version: int, examples: int) -> None:
    theirs = kio_class(cls, version)
    read = entity_reader(theirs)
    narrow = narrower(cls, version)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(messages(cls, version, lambda field: narrow.get(field.name)))
    def agrees_with_kio(message: Message) -> None:
        entity = to_kio(message, version, theirs)
        data = encode(message, version)
        assert data == kio_bytes(entity)
        assert read(data, 0) == (entity, len(data))
        assert decode(cls, data, version) == message

    agrees_with_kio()


@pytest.mark.parametrize(("cls", "version"), PAIRS, ids=pair_id)
def test_kio_round_trip(cls: type[Message], version: int) -> None:
    check(cls, version, EVERYDAY_EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "version"), PAIRS, ids=pair_id)
def test_kio_round_trip_with_many_examples(cls: type[Message], version: int) -> None:
    check(cls, version, SLOW_EXAMPLES)


def test_kio_has_every_message_and_version_that_we_speak(capsys: pytest.CaptureFixture[str]) -> None:
    lacking = []
    for cls, version in PAIRS:
        try:
            kio_class(cls, version)
        except Exception as error:
            lacking.append(f"{cls.__name__} v{version}: {error}")
    classes = {cls for cls, _ in PAIRS}
    with capsys.disabled():
        print(f"\nkio round trip: {len(classes)} messages x {len(PAIRS)} versions in all", file=sys.stderr)
    assert lacking == []
    assert classes == {cls for api in APIS.values() for cls in (api.request, api.response)}


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.key.name)
@pytest.mark.parametrize("client_id", [None, "", "a client"])
def test_request_headers_agree_with_kio(api: Api, client_id: str | None) -> None:
    for version in range(api.min_version, api.max_version + 1):
        flexible = api.first_flexible is not None and version >= api.first_flexible
        header_class: Any = KioRequestHeader2 if flexible else KioRequestHeader1
        header = header_class(
            request_api_key=api.key, request_api_version=version, correlation_id=77, client_id=client_id
        )
        message = sample(api.request, version)
        frame = b"".join(encode_request(message, version, correlation_id=77, client_id=client_id))
        body = kio_bytes(header) + encode(message, version)
        assert frame == len(body).to_bytes(4, "big") + body
        ours, rest = decode_request(body)
        assert (ours.api_key, ours.api_version, ours.correlation_id, ours.client_id) == (
            api.key,
            version,
            77,
            client_id,
        )
        assert decode(api.request, rest, version) == message
