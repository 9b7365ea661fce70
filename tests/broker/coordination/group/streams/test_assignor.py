"""The sticky task assignor: even shares first, then where the state is, and no task twice in a process."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.broker.coordination.group.streams.assignor import Claimant, assign
from streamkit.broker.coordination.group.streams.internal_topics import (
    ConfiguredSubtopology,
    InternalTopic,
)
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Task, Tasks
from tests.broker.coordination.group.streams.members import active

CHANGELOG = InternalTopic("changelog", 1, 1, ())


def subtopologies(**tasks: int) -> dict[str, ConfiguredSubtopology]:
    """Names that begin with an `s` have state."""
    return {
        name: ConfiguredSubtopology(
            tasks=count,
            source_topics=("in",),
            repartition_sinks=(),
            repartition_sources=(),
            changelogs=(CHANGELOG,) if name.startswith("s") else (),
        )
        for name, count in sorted(tasks.items())
    }


def members(*names: str, had: dict[str, Tasks] | None = None) -> list[Claimant]:
    """`p1.a` is member a of process p1; without a dot each is a process of its own."""
    return [Claimant(name, name.split(".")[0], (had or {}).get(name, NOTHING)) for name in names]


def test_the_first_assignment_is_even_and_by_ranges_of_a_subtopology() -> None:
    parts = assign(members("a", "b"), subtopologies(s=4, t=2), 0)
    assert [len(part.active) for part in parts.values()] == [3, 3]
    assert {task.subtopology for task in parts["a"].active} == {"s", "t"}
    assert not any(part.standby or part.warmup for part in parts.values())


def test_a_task_stays_where_it_was() -> None:
    before = {"a": Tasks(active=active("s", 1, 3)), "b": Tasks(active=active("s", 0, 2))}
    assert assign(members("a", "b", had=before), subtopologies(s=4), 0) == before


def test_a_new_member_gets_its_share_and_no_other_task_moves() -> None:
    before = {"a": Tasks(active=active("s", 0, 1, 2)), "b": Tasks(active=active("s", 3, 4, 5))}
    parts = assign(members("a", "b", "c", had=before), subtopologies(s=6), 0)
    assert [len(part.active) for part in parts.values()] == [2, 2, 2]
    assert parts["a"].active < before["a"].active and parts["b"].active < before["b"].active


def test_what_a_member_leaves_goes_to_whoever_kept_a_copy() -> None:
    before = {
        "b": Tasks(active=active("s", 2), standby=active("s", 0)),
        "c": Tasks(active=active("s", 3), standby=active("s", 1)),
    }
    parts = assign(members("b", "c", had=before), subtopologies(s=4), 0)
    assert parts["b"].active == active("s", 0, 2) and parts["c"].active == active("s", 1, 3)


def test_processes_are_loaded_by_their_members() -> None:
    parts = assign(members("p1.a", "p1.b", "p2.a"), subtopologies(t=6), 0)
    assert [len(part.active) for part in parts.values()] == [2, 2, 2]


def test_copies_are_kept_of_state_alone_and_in_other_processes() -> None:
    parts = assign(members("p1.a", "p1.b", "p2.a", "p2.b"), subtopologies(s=4, t=4), 1)
    assert Counter(task for part in parts.values() for task in part.standby) == Counter(
        active("s", 0, 1, 2, 3)
    )
    for process in ("p1", "p2"):
        mine = [part for name, part in parts.items() if name.startswith(process)]
        ran = {task for part in mine for task in part.active}
        assert ran.isdisjoint(task for part in mine for task in part.standby)


def test_a_copy_stays_where_it_was() -> None:
    before = {
        "a": Tasks(active=active("s", 0, 1), standby=active("s", 2, 3)),
        "b": Tasks(active=active("s", 2, 3), standby=active("s", 0, 1)),
    }
    assert assign(members("a", "b", had=before), subtopologies(s=4), 1) == before


def test_too_few_processes_keep_as_many_copies_as_they_can() -> None:
    parts = assign(members("a", "b"), subtopologies(s=2), 3)
    assert Counter(task for part in parts.values() for task in part.standby) == Counter(active("s", 0, 1))
    alone = assign(members("a"), subtopologies(s=2), 1)
    assert alone == {"a": Tasks(active=active("s", 0, 1))}


def test_more_members_than_tasks() -> None:
    parts = assign(members("a", "b", "c"), subtopologies(t=1), 0)
    assert sorted(len(part.active) for part in parts.values()) == [0, 0, 1]


layouts = st.dictionaries(st.sampled_from(["s1", "s2", "t1", "t2"]), st.integers(1, 6), min_size=1)
crowds = st.lists(st.sampled_from([f"p{p}.{m}" for p in range(4) for m in "abc"]), min_size=1, unique=True)


@settings(max_examples=60, deadline=None)
@given(layout=layouts, first=crowds, then=crowds, standby=st.integers(0, 2))
def test_whatever_came_before(
    layout: dict[str, int], first: list[str], then: list[str], standby: int
) -> None:
    wanted = subtopologies(**layout)
    before = assign(members(*first), wanted, standby)
    parts = assign(members(*then, had=before), wanted, standby)
    tasks = [Task(name, number) for name, one in wanted.items() for number in range(one.tasks)]
    assert sorted(task for part in parts.values() for task in part.active) == sorted(tasks)
    processes = {name.split(".")[0] for name in then}
    if len(processes) == len(then):
        assert max(len(part.active) for part in parts.values()) <= -(-len(tasks) // len(then))
    copies = Counter(task for part in parts.values() for task in part.standby)
    possible = min(standby, len(processes) - 1)
    stateful = [task for task in tasks if wanted[task.subtopology].is_stateful]
    assert copies == Counter(stateful * possible)
    held = Counter(
        (name.split(".")[0], task) for name, part in parts.items() for role in part.roles for task in role
    )
    assert not held or max(held.values()) == 1
    if set(then) == set(first):
        assert {name: part.active for name, part in parts.items()} == {
            name: part.active for name, part in before.items()
        }
