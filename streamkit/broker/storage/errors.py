"""What can be wrong with a data directory or a log in it, told to the person who runs the broker."""

from __future__ import annotations

from streamkit.errors import RefusedError, StreamkitError


class DirectoryLockedError(RefusedError):
    """Another process holds the data directory."""


class ForeignDirectoryError(RefusedError):
    """The directory belongs to another node, another cluster, or to no broker at all."""


class UnreadableDirectoryError(RefusedError):
    """The directory, or what says whose it is, cannot be read or written."""


class LogOfflineError(StreamkitError):
    """A log that lost promised bytes, or whose directory failed: KAFKA_STORAGE_ERROR to clients."""


class OffsetOutOfRangeError(StreamkitError):
    """An offset outside [log start, log end], or one that records may not be deleted up to."""
