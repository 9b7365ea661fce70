"""Frames: four bytes of size, a header, a message.

Three traps of the headers: the response to ApiVersions never has a tag section, for its reader does not yet
know what the broker speaks; a request's client id is a string with an int16 length in every version; and the
header of a request must be readable even where its version is not, so that the refusal can carry its
correlation id.
"""

from __future__ import annotations

import struct

import msgspec

from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.codec import decode_prefix, encode_into
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.primitives import skip_tags
from streamkit.protocol.schema import Buffer, Message, MessageType

_REQUEST_START = struct.Struct(">hhih")
_RESPONSE_START = struct.Struct(">ii")
_SIZE = struct.Struct(">i")


class RequestHeader(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Request header versions 1 and 2; the latter adds a tag section, which nothing uses."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None = None


def decode_request(frame: Buffer) -> tuple[RequestHeader, memoryview]:
    """The header and the undecoded body of a frame without its size.

    Nothing says here that the API or the version is known: the caller looks, then decodes the body.
    """
    view = frame if type(frame) is memoryview else memoryview(frame)
    try:
        api_key, api_version, correlation_id, length = _REQUEST_START.unpack_from(view)
        body = _REQUEST_START.size + max(length, 0)
        if length < -1 or body > len(view):
            raise MalformedMessageError(f"the request header claims a client id of {length} bytes")
        client_id = None if length < 0 else str(view[_REQUEST_START.size : body], "utf-8")
        if has_flexible_header(api_key, api_version):
            body = skip_tags(view, body + 1, len(view), view[body])
    except (struct.error, IndexError):
        raise MalformedMessageError("the request header ends early") from None
    except UnicodeDecodeError as error:
        raise MalformedMessageError("the client id is not UTF-8") from error
    header = RequestHeader(
        api_key=api_key, api_version=api_version, correlation_id=correlation_id, client_id=client_id
    )
    return header, view[body:]


def has_flexible_header(api_key: int, api_version: int) -> bool:
    """Whether headers of this API and version end with a tag section (the response of ApiVersions aside)."""
    api = APIS.get(api_key)
    return api is not None and api.first_flexible is not None and api_version >= api.first_flexible


def encode_request(
    message: Message, version: int, *, correlation_id: int, client_id: str | None = None
) -> list[Buffer]:
    """A whole frame, size included; records in it are the caller's own buffers."""
    name = None if client_id is None else client_id.encode()
    out = bytearray(_SIZE.size)
    out += _REQUEST_START.pack(message.KEY, version, correlation_id, -1 if name is None else len(name))
    out += name or b""
    if version in message.FLEXIBLE:
        out.append(0)
    return _finish(out, message, version)


def encode_response(correlation_id: int, message: Message, version: int) -> list[Buffer]:
    """A whole frame, size included; records in it are the caller's own buffers."""
    flexible = version in message.FLEXIBLE and message.KEY != ApiKey.API_VERSIONS
    out = bytearray(_RESPONSE_START.size + flexible)
    buffers: list[Buffer] = [out]
    encode_into(buffers, message, version)
    _RESPONSE_START.pack_into(out, 0, sum(map(len, buffers)) - _SIZE.size, correlation_id)
    return buffers


def decode_response(cls: type[MessageType], frame: Buffer, version: int) -> tuple[int, MessageType]:
    """The correlation id and the message of a frame without its size."""
    view = frame if type(frame) is memoryview else memoryview(frame)
    try:
        (correlation_id,) = _SIZE.unpack_from(view)
        body = _SIZE.size
        if version in cls.FLEXIBLE and cls.KEY != ApiKey.API_VERSIONS:
            body = skip_tags(view, body + 1, len(view), view[body])
    except (struct.error, IndexError):
        raise MalformedMessageError("the response header ends early") from None
    return correlation_id, decode_prefix(cls, view, version, body)[0]


def _finish(out: bytearray, message: Message, version: int) -> list[Buffer]:
    buffers: list[Buffer] = [out]
    encode_into(buffers, message, version)
    _SIZE.pack_into(out, 0, sum(map(len, buffers)) - _SIZE.size)
    return buffers
