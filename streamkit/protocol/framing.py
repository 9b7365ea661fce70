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
from streamkit.protocol.codec import decode, encode_into, encoder_of
from streamkit.protocol.compiler.encoder import Encoder
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.primitives import skip_tags
from streamkit.protocol.schema import Buffer, Message, MessageType

_REQUEST_START = struct.Struct(">hhih")
_REQUEST_START_BYTES = _REQUEST_START.size
_RESPONSE_START = struct.Struct(">ii")
_SIZE = struct.Struct(">i")

_FIRST_FLEXIBLE = {api.key: api.first_flexible for api in APIS.values() if api.first_flexible is not None}
_NEVER = 1 << 15

_responses: dict[tuple[type[Message], int], tuple[bytes, Encoder]] = {}


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
        body = _REQUEST_START_BYTES
        if length < 0:
            client_id = None
        else:
            body += length
            client_id = view[_REQUEST_START_BYTES:body].tobytes().decode()
        if length < -1 or body > len(view):
            raise MalformedMessageError(f"the request header claims a client id of {length} bytes")
        if api_version >= _FIRST_FLEXIBLE.get(api_key, _NEVER):
            tags = view[body]
            body = skip_tags(view, body + 1, len(view), tags) if tags else body + 1
    except (struct.error, IndexError):
        raise MalformedMessageError("the request header ends early") from None
    except UnicodeDecodeError as error:
        raise MalformedMessageError("the client id is not UTF-8") from error
    header = RequestHeader(
        api_key=api_key, api_version=api_version, correlation_id=correlation_id, client_id=client_id
    )
    return header, view[body:]


def _has_tags(cls: type[Message], version: int) -> bool:
    """Whether the header of a response of this class ends with a tag section."""
    return version in cls.FLEXIBLE and cls.KEY != ApiKey.API_VERSIONS


def encode_request(
    message: Message, version: int, *, correlation_id: int, client_id: str | None = None
) -> list[Buffer]:
    """A whole frame, size included; records in it are the caller's own buffers."""
    name = b"" if client_id is None else client_id.encode()
    out = bytearray(_SIZE.size)
    out += _REQUEST_START.pack(message.KEY, version, correlation_id, -1 if client_id is None else len(name))
    out += name
    if version in message.FLEXIBLE:
        out.append(0)
    buffers: list[Buffer] = [out]
    encode_into(buffers, message, version)
    _SIZE.pack_into(out, 0, sum(map(len, buffers)) - _SIZE.size)
    return buffers


def encode_response(correlation_id: int, message: Message, version: int) -> list[Buffer]:
    """A whole frame, size included; records in it are the caller's own buffers."""
    cls = type(message)
    known = _responses.get((cls, version))
    if known is None:
        blank = bytes(_RESPONSE_START.size + _has_tags(cls, version))
        known = _responses[cls, version] = blank, encoder_of(cls, version)
    blank, encoder = known
    out = bytearray(blank)
    buffers: list[Buffer] = [out]
    encoder(message, buffers)
    size = len(out) if len(buffers) == 1 else sum(map(len, buffers))
    _RESPONSE_START.pack_into(out, 0, size - _SIZE.size, correlation_id)
    return buffers


def decode_response(cls: type[MessageType], frame: Buffer, version: int) -> tuple[int, MessageType]:
    """The correlation id and the message of a frame without its size."""
    view = frame if type(frame) is memoryview else memoryview(frame)
    try:
        (correlation_id,) = _SIZE.unpack_from(view)
        body = _SIZE.size
        if _has_tags(cls, version):
            body = skip_tags(view, body + 1, len(view), view[body])
    except (struct.error, IndexError):
        raise MalformedMessageError("the response header ends early") from None
    return correlation_id, decode(cls, view, version, body)
