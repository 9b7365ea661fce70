"""The quorum's first look: log, snapshots and vote on this node's disk become a state machine that goes on.

The log counts as far as it fits its snapshots. Where a crash came between a snapshot's end and the log that
begins behind it, the log is begun anew; a log whose beginning no snapshot explains is refused.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.config_key import INT_MAX, LONG_MAX
from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.raft.control_records import voters_in
from streamkit.broker.raft.log_view import EpochStart, LogView, SnapshotId, VotersAt
from streamkit.broker.raft.node import RaftNode
from streamkit.broker.raft.ready import ElectionState
from streamkit.broker.raft.roles import Timeouts
from streamkit.broker.raft.voters import Endpoint, ReplicaKey, Voter, VoterSet
from streamkit.broker.server.controller.quorum import Quorum
from streamkit.broker.server.controller.quorum_peers import QuorumPeers
from streamkit.broker.server.controller.quorum_state import STATE_FILE, decode_state
from streamkit.broker.server.controller.quorum_wire import METADATA_TOPIC_ID
from streamkit.broker.server.controller.snapshots import Snapshots
from streamkit.broker.server.timers import Timers
from streamkit.broker.topic_config import TopicConfig
from streamkit.errors import RefusedError
from streamkit.protocol.records.batch import batches
from streamkit.runtime.contracts.disk import Disk
from streamkit.runtime.contracts.ports import Ports
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory
    from streamkit.broker.storage.partition_log import PartitionLog

READ_BYTES: Final = 1024 * 1024
# `flush.messages=1` keeps every append durable also where `streamkit.flush.mode=relaxed`.
LOG_CONFIG: Final = TopicConfig(
    flush_messages=1,
    max_message_bytes=INT_MAX,
    message_timestamp_after_max_ms=LONG_MAX,
    retention_ms=-1,
)


async def open_quorum(
    directory: LogDirectory,
    config: BrokerConfig,
    *,
    ports: Ports,
    timers: Timers,
    metrics: Registry,
    controller_endpoint: Endpoint | None = None,
) -> Quorum:
    """Open the metadata log in `directory`, make it if it is new; a node alone leads on return.

    Raises RefusedError.
    """
    log = await directory.open_partition(CLUSTER_METADATA, METADATA_TOPIC_ID, 0, LOG_CONFIG)
    if log.offline_reason:
        raise RefusedError(
            f"the metadata log in {log.path} is damaged: {log.offline_reason}",
            hint="restore the directory from a copy, or start with an empty --data-dir",
        )
    disk = ports.disk
    if STATE_FILE not in disk.entries(log.path):
        await disk.flush([], [os.path.dirname(log.path)])
    state = _read_state(disk, log)
    snapshots = Snapshots(disk, log.path, config.metadata_log_max_record_bytes_between_snapshots)
    own = () if controller_endpoint is None else (controller_endpoint,)
    key = ReplicaKey(config.node_id, directory.directory_id)
    configured = configured_voters(config, key, own)
    timeouts = quorum_timeouts(config)
    view = await _view(log, snapshots)
    raft = RaftNode(
        key,
        state=msgspec.structs.replace(state, epoch=max(state.epoch, view.last_epoch, 0)),
        log=view,
        configured_voters=configured,
        timeouts=timeouts,
        now_ms=ports.clock.monotonic_s() * 1000,
        jitter=ports.rng.uniform("quorum", 0, 1),
    )
    peers = QuorumPeers(ports.network, config.node_id, configured, own)
    quorum = Quorum(
        log, raft, peers, snapshots, directory,
        ports=ports, timers=timers, timeouts=timeouts, metrics=metrics,
    )  # fmt: skip
    await quorum.begin()
    return quorum


def configured_voters(config: BrokerConfig, own: ReplicaKey, endpoints: tuple[Endpoint, ...]) -> VoterSet:
    """The voters of a cluster that is yet to be formed; a node without any is a cluster of its own."""
    name = config.controller_listener_names[0]
    voters = [
        Voter(ReplicaKey(one.node_id), (Endpoint(name, one.host, one.port),)) for one in config.voters()
    ]
    return VoterSet(voters or [Voter(own, endpoints)])


def quorum_timeouts(config: BrokerConfig) -> Timeouts:
    return Timeouts(
        election_ms=config.controller_quorum_election_timeout_ms,
        fetch_ms=config.controller_quorum_fetch_timeout_ms,
        election_backoff_max_ms=config.controller_quorum_election_backoff_max_ms,
    )


def _read_state(disk: Disk, log: PartitionLog) -> ElectionState:
    path = f"{log.path}/{STATE_FILE}"
    try:
        return decode_state(disk.read_file(path), path)
    except FileNotFoundError:
        return ElectionState()


async def _view(log: PartitionLog, snapshots: Snapshots) -> LogView:
    """What the log says of epochs and voters; raises RefusedError if it does not fit its snapshots."""
    newest = await snapshots.begin()
    if newest is None:
        snapshots.appended_bytes = log.size_bytes
    start = log.log_start_offset
    if newest is not None and not _leads_to(log, newest):
        # the snapshot was complete, and the crash came before the log was begun anew behind it
        await log.restart_at(newest.end_offset)
        start = newest.end_offset
    behind = snapshots.ending_at(start)
    if start > 0 and behind is None:
        raise RefusedError(
            f"the metadata log in {log.path} begins at {start}, and no snapshot ends there",
            hint="restore the directory from a copy, or start with an empty --data-dir",
        )
    voters = []
    if behind is not None:
        recorded = (await snapshots.load(behind)).voters
        voters = [] if recorded is None else [VotersAt(start - 1, recorded)]
    voters += await _recorded_voters(log)
    return LogView(
        start_offset=start,
        end_offset=log.log_end_offset,
        epochs=[EpochStart(entry.epoch, entry.start_offset) for entry in log.epochs.entries],
        voters=voters,
        snapshot=newest,
        start_snapshot=behind,
    )


def _leads_to(log: PartitionLog, snapshot: SnapshotId) -> bool:
    """Whether the log holds the very records that the snapshot's end stands for, or begins behind them."""
    end_offset = snapshot.end_offset
    if end_offset == log.log_start_offset:
        return True
    return end_offset <= log.log_end_offset and log.epochs.epoch_at(end_offset - 1) == snapshot.epoch


async def _recorded_voters(log: PartitionLog) -> list[VotersAt]:
    found = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = await log.read_cold(offset, max_bytes=READ_BYTES, end_offset=log.log_end_offset)
        for header, batch in batches(data):
            offset = header.next_offset
            voters = voters_in(batch) if header.is_control else None
            if voters is not None:
                found.append(VotersAt(header.last_offset, voters))
    return found
