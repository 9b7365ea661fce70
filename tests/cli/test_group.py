"""`group` as processes on a real broker: groups of every kind, shown, moved and deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, ShareConsumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streamkit.cli.asking import ask
from streamkit.client import share_groups
from streamkit.client.groups import coordinator
from streamkit.client.node import Node
from streamkit.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
    Subtopology,
    TopicInfo,
    Topology,
)
from streamkit.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequestTaskIds as TaskIds,
)
from tests.support.broker_process import BrokerProcess
from tests.support.command_line import Cli, CliHere

LEAVING = -1


@pytest.fixture(scope="module")
def cli(broker: BrokerProcess) -> Cli:
    return CliHere(broker.bootstrap)


def configure(cli: Cli, group: str, **settings: str) -> None:
    """Settings of a group, written with `_` for `.`."""
    entries = [
        ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for key, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": cli.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(30)


@pytest.mark.parametrize(("protocol", "assignor"), [("classic", "range"), ("consumer", "uniform")])
def test_a_group_its_members_and_its_lag(cli: Cli, name: str, protocol: str, assignor: str) -> None:
    cli.out("topic", "create", name, "-p", "2")
    cli.out("topic", "produce", name, "-p", "0", "-v", "a", "-v", "b")
    settings = {"bootstrap.servers": cli.bootstrap, "group.id": name, "group.protocol": protocol}
    member = Consumer(
        {**settings, "auto.offset.reset": "earliest", "client.id": "test-member", "enable.auto.commit": False}
    )
    try:
        member.subscribe([name])
        deadline = time.monotonic() + 30
        while len(member.assignment()) < 2 and time.monotonic() < deadline:
            member.poll(0.1)
        member.commit(offsets=[TopicPartition(name, 0, 1)], asynchronous=False)
        listed = {"name": name, "state": "Stable", "type": protocol.capitalize()}
        assert listed in cli.json("group", "list")
        described = cli.json("group", "describe", name)
    finally:
        member.close()
    assert (described["state"], described["lag"]) == ("Stable", 1)
    assert (described["type"], described["assignor"]) == (protocol.capitalize(), assignor)
    assert [(m["client"], m["partitions"]) for m in described["members"]] == [("test-member", 2)]
    owner = described["members"][0]["member"]
    assert described["partitions"] == [
        {"topic": name, "partition": 0, "committed": 1, "end": 2, "lag": 1, "member": owner},
        {"topic": name, "partition": 1, "committed": None, "end": 0, "lag": None, "member": owner},
    ]
    lines = cli.out("group", "describe", name).splitlines()
    assert lines[0].startswith(f"group {name}: Empty, {protocol.capitalize()}")
    assert lines[0].endswith("0 members")
    assert lines[2].split() == [name, "0", "1", "2", "1", "-"]


def has_partitions(cli: Cli, name: str) -> bool:
    found = ask(cli.bootstrap, lambda node: share_groups.described(node, name))
    return found is not None and any(member.partitions for member in found.members)


def test_a_share_group_and_its_members(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name, "-p", "2")
    settings = {"bootstrap.servers": cli.bootstrap, "group.id": name, "client.id": "test-member"}
    member = ShareConsumer({**settings, "log_level": 0})
    try:
        member.subscribe([name])
        deadline = time.monotonic() + 30
        while not has_partitions(cli, name) and time.monotonic() < deadline:
            member.poll(0.1)
        assert {"name": name, "state": "Stable", "type": "Share"} in cli.json("group", "list")
        described = cli.json("group", "describe", name)
    finally:
        member.close()
    assert (described["state"], described["type"], described["assignor"]) == ("Stable", "Share", "simple")
    assert [m["client"] for m in described["members"]] == ["test-member"]
    holder = described["members"][0]["member"]
    assert [(row["topic"], row["partition"]) for row in described["partitions"]] == [(name, 0), (name, 1)]
    assert all(row["members"] == [holder] for row in described["partitions"])
    lines = cli.out("group", "describe", name).splitlines()
    assert lines[0] == f"group {name}: Empty, Share (simple), 0 members"
    assert lines[1].split() == ["topic", "partition", "start", "lag", "members"]


# ── streams groups ───────────────────────────────────────────────────────────────────────────────────────


class Thread:
    """A thread of a Kafka Streams application, as the broker knows it: it has what it is told to have."""

    def __init__(self, cli: Cli, group: str, process: str, topology: Topology) -> None:
        self._cli, self._group, self._process = cli, group, process
        self._topology = topology
        self._tasks: dict[str, list[TaskIds]] = {"active_tasks": [], "standby_tasks": [], "warmup_tasks": []}
        self._epoch = 0

    def beat(self) -> None:
        """One heartbeat; the first one joins."""
        joins = self._epoch == 0
        answer = self._say(
            StreamsGroupHeartbeatRequest(
                group_id=self._group,
                member_id=f"thread-of-{self._process}",
                member_epoch=self._epoch,
                process_id=self._process if joins else None,
                rebalance_timeout_ms=60_000 if joins else -1,
                topology=self._topology if joins else None,
                **self._tasks,
            )
        )
        self._epoch = answer.member_epoch
        for role in self._tasks:
            told = getattr(answer, role)
            if told is not None:
                self._tasks[role] = [
                    TaskIds(subtopology_id=one.subtopology_id, partitions=one.partitions) for one in told
                ]

    def leave(self) -> None:
        self._say(
            StreamsGroupHeartbeatRequest(
                group_id=self._group, member_id=f"thread-of-{self._process}", member_epoch=LEAVING
            )
        )

    def _say(self, request: StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatResponse:
        async def work(node: Node) -> StreamsGroupHeartbeatResponse:
            async with coordinator(node, self._group) as one:
                answer: StreamsGroupHeartbeatResponse = await one.ask(request)
            assert answer.error_code == 0, answer.error_message
            return answer

        return ask(self._cli.bootstrap, work)


def until_stable(cli: Cli, group: str, threads: list[Thread]) -> None:
    deadline = time.monotonic() + 30
    while {"name": group, "state": "Stable", "type": "Streams"} not in cli.json(
        "group", "list", "--type", "streams", "--state", "stable"
    ):
        assert time.monotonic() < deadline, "the group is not stable within 30 s"
        for thread in threads * 3:
            thread.beat()


def test_a_streams_group_its_tasks_and_its_lag(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name, "-p", "2")
    cli.out("topic", "produce", name, "-p", "1", "-v", "a", "-v", "b")
    configure(cli, name, streams_initial_rebalance_delay_ms="0", streams_num_standby_replicas="1")
    changelog = TopicInfo(name=f"{name}-changelog")
    counting = Subtopology(subtopology_id="0", source_topics=[name], state_changelog_topics=[changelog])
    topology = Topology(epoch=0, subtopologies=[counting])
    threads = [Thread(cli, name, process, topology) for process in ("p-1", "p-2")]
    until_stable(cli, name, threads)
    described = cli.json("group", "describe", name)
    assert (described["type"], described["topology"], described["lag"]) == ("Streams", 0, 0)
    members = sorted(described["members"], key=lambda one: one["process"])
    assert [(one["process"], one["topology"], one["warmup"]) for one in members] == [
        ("p-1", 0, []), ("p-2", 0, []),
    ]  # fmt: skip
    assert sorted(members[0]["active"] + members[1]["active"]) == ["0_0", "0_1"]
    assert [one["standby"] for one in members] == [members[1]["active"], members[0]["active"]]
    owners = {row["partition"]: row["member"] for row in described["partitions"]}
    assert owners == {int(one["active"][0][-1]): one["member"] for one in members}
    lines = cli.out("group", "describe", name).splitlines()
    assert lines[0] == f"group {name}: Stable, Streams, topology epoch 0, 2 members"
    assert lines[1].split()[3:] == ["process", "epoch", "topology", "active", "standby", "warmup"]
    assert "has members" in cli.fails(5, "group", "reset", name, name, "--to", "start", "--yes")
    for thread in threads:
        thread.leave()
    cli.out("group", "reset", name, name, "--to", "end", "--yes")
    assert [row["committed"] for row in cli.json("group", "describe", name)["partitions"]] == [0, 2]
    assert cli.json("group", "delete", name) == {"deleted": [name]}


# ── going on from elsewhere ──────────────────────────────────────────────────────────────────────────────


def queue(cli: Cli, group: str, topic: str) -> None:
    """A share group without members that has begun with the topic."""
    configure(cli, group, share_auto_offset_reset="earliest")
    member = ShareConsumer({"bootstrap.servers": cli.bootstrap, "group.id": group, "log_level": 0})
    try:
        member.subscribe([topic])
        deadline, taken = time.monotonic() + 30, 0
        while not taken and time.monotonic() < deadline:
            taken = len(member.poll(0.2))
        assert taken
    finally:
        member.close()


def consumers(cli: Cli, group: str, topic: str) -> None:
    """A group without members that has read two of three records."""
    consumer = Consumer({"bootstrap.servers": cli.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    consumer.close()


def plan(cli: Cli, group: str, to: str) -> dict[str, Any]:
    """What a reset says that it would do with the one partition of the group."""
    done = cli.run("group", "reset", group, "--to", to, "--json")
    assert done.stderr == b"that was the plan; --yes carries it out\n"
    (row,) = json.loads(done.stdout)
    assert isinstance(row, dict)
    return row


@pytest.mark.parametrize("begin", [consumers, queue])
def test_a_group_goes_on_from_elsewhere(cli: Cli, name: str, begin: Callable[[Cli, str, str], None]) -> None:
    cli.out("topic", "create", name)
    cli.out("topic", "produce", name, "-v", "a", "-v", "b", "-v", "c")
    begin(cli, name, name)
    before = plan(cli, name, "1")
    assert (before["topic"], before["partition"], before["to"]) == (name, 0, 1)
    done = cli.run("group", "reset", name, f"{name}:0", "--to", "-1", "--yes")
    assert done.returncode == 0 and done.stderr == b""
    after = plan(cli, name, "+1")
    assert (after["from"], after["to"]) == (2, 1), "the plan of before was not carried out, and this one was"
    assert cli.json("group", "delete", name, "--topic", name) == {"deleted": [name], "topics": [name]}
    assert cli.run("group", "delete", name).returncode in (0, 4), "a name for offsets goes with the last one"
    assert name not in cli.out("group", "list")


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (4, ["describe", "no-such"], "error: there is no group 'no-such'"),
        (4, ["delete", "no-such"], "error: there is no group 'no-such'"),
        (4, ["reset", "no-such", "--to", "start"], "error: there is no group 'no-such'"),
        (2, ["reset", "no-such"], "error: Missing option '--to'"),
        (2, ["list", "--type", "queue"], "error: Invalid value for '--type'"),
        (2, ["list", "--state", "Sleepy"], "error: Invalid value for '--state'"),
        (3, ["list", "--bootstrap", "127.0.0.1:1"], "error: no broker answers at 127.0.0.1:1"),
    ],
)
def test_failures_are_short_and_have_their_codes(cli: Cli, code: int, words: list[str], says: str) -> None:
    assert cli.fails(code, "group", *words).startswith(says)


def test_what_a_group_cannot_be_told(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name)
    cli.out("topic", "produce", name, "-v", "a", "-v", "b")
    consumers(cli, name, name)
    assert "no partition 7" in cli.fails(4, "group", "reset", name, f"{name}:7", "--to", "start")
    assert "not the range" in cli.fails(2, "group", "reset", name, "--to", "1:2")
    assert "has no offsets of topic 'other'" in cli.fails(4, "group", "delete", name, "--topic", "other")
