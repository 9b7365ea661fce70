"""Messages to bytes and back. A codec is compiled the first time that a (class, version) is used.

A field that a version does not have is left out when encoding and keeps its default when decoding.
"""

from __future__ import annotations

import struct

from streamkit.protocol.compiler.decoder import Decoder, compile_decoder
from streamkit.protocol.compiler.encoder import Encoder, compile_encoder
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.schema import Buffer, Message, MessageType

NO_LIMIT = 2**63

_encoders: dict[tuple[type[Message], int], Encoder] = {}
_decoders: dict[tuple[type[Message], int], Decoder] = {}


def encode(message: Message, version: int) -> bytes:
    """The message in one piece. Values outside of their type's range are a caller's error: `struct.error`."""
    buffers: list[Buffer] = [bytearray()]
    encode_into(buffers, message, version)
    return b"".join(buffers)


def encode_into(buffers: list[Buffer], message: Message, version: int) -> None:
    """Append to the last buffer, which must be a bytearray; records join the list as they are, uncopied."""
    encoder_of(type(message), version)(message, buffers)


def encoder_of(cls: type[Message], version: int) -> Encoder:
    encoder = _encoders.get((cls, version))
    if encoder is None:
        encoder = _encoders[cls, version] = compile_encoder(cls, version)
    return encoder


def decode(
    cls: type[MessageType], data: Buffer, version: int, pos: int = 0, max_elements: int = NO_LIMIT
) -> MessageType:
    """The message at `pos`; its records are slices of `data`. Bytes after it are ignored, as by Kafka.

    One whose arrays hold more than `max_elements` together is refused before they are read.
    """
    decoder = _decoders.get((cls, version))
    if decoder is None:
        decoder = _decoders[cls, version] = compile_decoder(cls, version)
    view = data if type(data) is memoryview else memoryview(data)
    try:
        message: MessageType = decoder(view, pos, len(view), max_elements)
    except (struct.error, IndexError):
        raise MalformedMessageError(f"{cls.__name__} v{version} ends early") from None
    except UnicodeDecodeError as error:
        raise MalformedMessageError(f"{cls.__name__} v{version} has a string that is not UTF-8") from error
    return message
