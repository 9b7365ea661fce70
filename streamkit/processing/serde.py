"""Bytes to values and back, chosen by the type that a topic declares.

A `Serde` is two plain callables and a name. The generated loops (`fuse`) bind the callables directly, so
decoding a record costs one C call and no frame of ours. The name takes part in the fingerprint of state.

    app.topic("orders", value=Order)             # Struct, dataclass, TypedDict: msgspec, checked on decode
    app.topic("orders")                          # plain JSON by orjson: dict, list, str, numbers
    app.topic("blobs", value=bytes, key=str)     # as they are; UTF-8
    app.topic("orders", value=sk.Serde("v2", encode=pack, decode=unpack))

A null value is Kafka's tombstone: `None` is never handed to a serde in either direction.

A serde may belong to the edge of an app: it is how others write the records of a topic (`schemas`), and what
the app keeps for itself, in stores and repartition topics, is written by its `inner`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast, is_typeddict

import msgspec
import msgspec.inspect
import orjson

from streamkit.errors import RefusedError, UsageError

T = TypeVar("T")


class NotYetError(Exception):
    """A record cannot be decoded at present, through no fault of its own. It waits: no policy is asked."""


class Serde(msgspec.Struct, Generic[T], frozen=True):
    """How values of one type are written to records. `name` changes whenever the bytes' meaning does.

    `nullable`: a null value reaches user functions as None instead of counting as undecodable.
    `encode_not_null`: does for values whose class is in `NOT_NULL`, and is the quicker one.
    `decode_arrival`: as `decode`, where the caller must not wait: it raises NotYetError instead.
    `inner`: writes the same values where only the app itself reads them; None: this one.
    """

    name: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]
    nullable: bool = False
    encode_not_null: Callable[[T], bytes] | None = None
    decode_arrival: Callable[[bytes], T] | None = None
    inner: Serde[T] | None = None

    @property
    def on_arrival(self) -> Callable[[bytes], T]:
        """Decodes the records of a topic as they come in."""
        return self.decode_arrival or self.decode

    @property
    def within(self) -> Serde[T]:
        """The serde for what the app keeps for itself."""
        return self.inner or self


Written = type[T] | Serde[T]  # how a user says how values are written: by their type, or by a serde


PLAIN = frozenset((dict, list, tuple, str, int, float, bool, type(None)))
NOT_NULL = PLAIN - {type(None)}
_encode_json = msgspec.json.Encoder().encode


def _plain_json(value: object) -> bytes:
    """JSON of a plain value: a Struct, dataclass or model would come back as a dict, so it is refused.

    Written by msgspec: orjson starts each result in a kilobyte of its own, and a slice's worth of those costs
    four times the encoding in page faults.
    """
    if value.__class__ not in PLAIN:
        raise TypeError(
            f"{type(value).__name__} in a stream whose type is not known: annotate the function that "
            "made it, or declare the type (app.topic(..., value=T), group_by(..., value=T))"
        )
    return _encode_json(value)


def _json_key(data: bytes) -> Any:
    key = orjson.loads(data)
    return _hashable(key) if key.__class__ is list else key


def _hashable(value: list[Any]) -> tuple[Any, ...]:
    return tuple(_hashable(item) if item.__class__ is list else item for item in value)


def _as_is(data: bytes) -> bytes:
    return data


def _any_key(key: Any) -> bytes:
    if isinstance(key, str):
        return key.encode()
    return key if isinstance(key, bytes) else _encode_json(key)


JSON: Serde[Any] = Serde("json", _plain_json, orjson.loads, nullable=True, encode_not_null=_encode_json)
JSON_KEY: Serde[Any] = Serde("json-key", _encode_json, _json_key)
BYTES: Serde[bytes] = Serde("bytes", _as_is, _as_is, nullable=True)
STR: Serde[str] = Serde("str", str.encode, bytes.decode)
# Keys of topics that declare no key type: bytes when read; text as UTF-8 and the rest as JSON when written.
UNDECLARED_KEY: Serde[Any] = Serde("key", _any_key, _as_is)
PLAIN_SERDES = (JSON, JSON_KEY, BYTES, STR, UNDECLARED_KEY)  # no code of a user's runs in them
# What one of these has read need not be written anew, unless it was changed: its own bytes say the same.
WRITTEN_AS_READ = (JSON, BYTES, STR)


def checked_key(serde: Serde[T], topic: str) -> Serde[T]:
    """The serde for keys that were not declared as this topic's are: one of another type is refused, since it
    would be written as JSON that no reader of the topic takes (bytes as base64). Raises TypeError then.
    """
    read_back = serde.decode if serde.name.startswith("json:") else _as_is

    def encode(key: T) -> bytes:
        try:
            data = serde.encode(key)
            if data.__class__ is not bytes:
                raise TypeError
            read_back(data)
        except (TypeError, msgspec.MsgspecError) as error:
            declared = serde.name.rpartition(":")[2].removeprefix("builtins.")
            raise TypeError(
                f"the key {key!r} is {type(key).__name__}, and the topic {topic} declares key={declared}: "
                "declare the same of the topic that it comes from, or group_by"
            ) from error
        return data

    return msgspec.structs.replace(serde, encode=encode)


def as_kept(serde: Serde[T], store: str) -> Serde[T]:
    """The serde for what a store holds. Bytes that it cannot read are nobody's record: an earlier declaration
    of the type wrote them. Raises RefusedError then, which says so.
    """

    def decode(data: bytes) -> T:
        try:
            return serde.decode(data)
        except Exception as error:
            raise RefusedError(
                f"{store} holds state that an earlier {serde.name.rpartition(':')[2]} wrote: {error}",
                hint="give what is new in it a default; or begin anew: another name=, or streamkit app reset",
            ) from error

    return serde if serde is BYTES or serde is JSON else msgspec.structs.replace(serde, decode=decode)


def value_serde(declared: type[T] | Serde[T] | Any) -> Serde[T]:
    """The serde for a declared value type."""
    if isinstance(declared, Serde):
        return declared.within
    for plain, serde in ((bytes, BYTES), (str, STR)):
        if declared is plain:
            return cast(Serde[T], serde)
    if declared in (Any, object, dict, list):
        return JSON
    if hasattr(declared, "model_validate_json"):
        return _pydantic(declared)
    return _msgspec(declared)


def key_serde(declared: type[T] | Serde[T] | Any) -> Serde[T]:
    """The serde for a declared key type; decoded keys are hashable."""
    if declared is tuple or declared in (Any, object):
        return JSON_KEY
    if isinstance(declared, Serde) and declared.inner is not None:
        raise UsageError(
            f"the keys {declared.name} belong to a topic: here they would be other bytes, and elsewhere",
            hint="app.topic(..., key=...) takes them; elsewhere name the type",
        )
    return value_serde(declared)


def class_name(declared: Any) -> str:
    """With its module. What `python shop.py` runs is called as `streamkit worker shop.py` imports it:
    the state of the one is the state of the other.
    """
    module = getattr(declared, "__module__", "")
    name = getattr(declared, "__qualname__", repr(declared))
    return f"{script_name() if module == '__main__' else module}.{name}"


def script_name() -> str:
    """The module that Python runs as `__main__`, as it is imported."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # python -m shop
        return str(spec.name)
    return "__main__" if file is None else str(file).rpartition("/")[2].removesuffix(".py")


def _pydantic(model: Any) -> Serde[Any]:
    return Serde(
        f"pydantic:{class_name(model)}",
        lambda value: cast(bytes, value.model_dump_json(by_alias=True).encode()),
        model.model_validate_json,
    )


def _msgspec(declared: Any) -> Serde[Any]:
    try:
        decoder = msgspec.json.Decoder(declared)
        if _says_nothing(declared):
            raise TypeError("a plain class does not say what its fields are")
    except TypeError as error:
        raise UsageError(
            f"no serde for {declared!r}: {error}",
            hint="use a msgspec.Struct, dataclass, TypedDict, pydantic model, bytes, str, or an sk.Serde",
        ) from None
    return Serde(
        f"json:{class_name(declared)}",
        msgspec.json.Encoder().encode,
        decoder.decode,
        nullable=_admits_none(declared),
    )


def _says_nothing(declared: Any) -> bool:
    """A class without fields that are known, which could be neither written nor read."""
    custom = isinstance(msgspec.inspect.type_info(declared), msgspec.inspect.CustomType)
    return custom and isinstance(declared, type) and not issubclass(declared, dict | list)


def _admits_none(declared: Any) -> bool:
    return not is_typeddict(declared) and type(None) in getattr(declared, "__args__", ())
