"""Who asks, in the form in which a broker tells it to the controller (KIP-590).

Nobody is authenticated yet, so everybody is Kafka's anonymous user.
"""

from __future__ import annotations

from struct import Struct

from streamkit.protocol.codec import decode, encode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.schema import Message, schema

_VERSION = Struct(">h")


@schema("0", flexible="0+")
class PrincipalData(Message):
    """`DefaultPrincipalData` of Kafka's specification."""

    type: str = "User"
    name: str = "ANONYMOUS"
    token_authenticated: bool = False


ANONYMOUS = PrincipalData()


def encode_principal(principal: PrincipalData) -> bytes:
    return _VERSION.pack(0) + encode(principal, 0)


def decode_principal(data: bytes) -> PrincipalData:
    """Raises MalformedMessageError."""
    if len(data) < _VERSION.size or _VERSION.unpack_from(data)[0] != 0:
        raise MalformedMessageError("a principal of an unknown version")
    return decode(PrincipalData, data, 0, _VERSION.size)
