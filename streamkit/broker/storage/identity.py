"""Whose data directory this is: `meta.properties`, Kafka's file and names."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode

import msgspec

from streamkit.broker.storage.errors import ForeignDirectoryError
from streamkit.runtime.contracts.rng import Rng

META_FILE = "meta.properties"
META_VERSION = "1"
_VERSION_MASK = 0xF << 76 | 0x3 << 62
_VERSION_4 = 0x4 << 76 | 0x2 << 62


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    cluster_id: str
    """Empty as long as the node has not learned which cluster it became part of."""
    node_id: int
    directory_id: bytes


def encode_uuid(uuid: bytes) -> str:
    """Kafka's text of a UUID: URL-safe base64 without padding, 22 characters."""
    return urlsafe_b64encode(uuid).decode().rstrip("=")


def decode_uuid(text: str) -> bytes:
    uuid = b64decode(text + "==", altchars=b"-_", validate=True)
    if len(uuid) != 16:
        raise ValueError(f"{text!r} is no UUID")
    return uuid


def random_uuid(rng: Rng, stream: str) -> bytes:
    """A version 4 UUID whose text begins with no dash, which a command line would take for an option."""
    while True:
        uuid = uuid_from(rng.bytes(stream, 16))
        if not encode_uuid(uuid).startswith("-"):
            return uuid


def uuid_from(random: bytes) -> bytes:
    """The version 4 UUID that these 16 bytes make."""
    number = int.from_bytes(random) & ~_VERSION_MASK | _VERSION_4
    return number.to_bytes(16)


def encode_identity(identity: Identity) -> bytes:
    return (
        f"version={META_VERSION}\ncluster.id={identity.cluster_id}\nnode.id={identity.node_id}\n"
        f"directory.id={encode_uuid(identity.directory_id)}\n"
    ).encode()


def decode_identity(data: bytes, path: str) -> Identity:
    lines = (line.strip() for line in data.decode(errors="replace").splitlines())
    properties = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    try:
        if properties["version"] != META_VERSION:
            raise ForeignDirectoryError(
                f"{path} is of version {properties['version']}; this broker reads version {META_VERSION}"
            )
        return Identity(
            cluster_id=properties["cluster.id"],
            node_id=int(properties["node.id"]),
            directory_id=decode_uuid(properties["directory.id"]),
        )
    except (KeyError, ValueError) as error:
        raise ForeignDirectoryError(
            f"{path} does not say whose directory this is ({error})",
            hint="restore that file, or start with an empty --data-dir",
        ) from None


def check_identity(identity: Identity, *, node_id: int, cluster_id: str | None, directory: str) -> None:
    if identity.node_id != node_id:
        raise ForeignDirectoryError(
            f"{directory} belongs to node {identity.node_id}, and this is node {node_id}",
            hint=f"start with --node-id {identity.node_id}, or with another --data-dir",
        )
    if cluster_id is not None and identity.cluster_id not in ("", cluster_id):
        raise ForeignDirectoryError(
            f"{directory} belongs to cluster {identity.cluster_id}, and this is cluster {cluster_id}",
            hint="start with another --data-dir",
        )
