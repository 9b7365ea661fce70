"""What can be wrong with bytes that came from a peer or a file, and with a version asked of the codec."""

from __future__ import annotations

from streamkit.errors import StreamkitError


class MalformedMessageError(StreamkitError):
    """The bytes are not what their schema says: the sender's fault, or a damaged file."""


class UnsupportedVersionError(StreamkitError):
    """The schema has no such version: the caller asked for one outside of the valid range."""
