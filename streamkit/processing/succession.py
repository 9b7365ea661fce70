"""What a new version of an app would lose: state of the former one that nobody takes over.

State is found by names: a store's changelog by the store's, a repartition topic by its operator's. What there
is stands in the group's commits: each names the changelogs of its task, and where in the graph its stores are
(`CommitMetadata`). A restore goes by nothing else either, so no further record of it is needed, on any Kafka.

    gone       a store of that name is no longer declared
    moved      its operator now reads other topics, whose commits know nothing of it
    swapped    it has the name of another store, and would take that one's state for its own
    unread     records that were on their way through a repartition topic

A topic that no longer exists has nothing to lose, nor has a repartition topic that was read to its end. A
stateless operator more or less changes no name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal, Self

import msgspec

from streamkit.errors import RefusedError
from streamkit.processing.tasks.checkpoint import CommitMetadata
from streamkit.processing.topology import Topology, is_internal, operator_of, store_of

SHOWN = 3  # names in one message


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """`name` of the store or operator as it was, `topic` where its records are."""

    name: str
    topic: str
    kind: Literal["gone", "moved", "swapped", "unread"]
    was: str = ""  # moved: what its task read
    now: str = (
        ""  # gone: its new name, as far as that shows; moved: what its task reads; swapped: whose place
    )


class Former(msgspec.Struct, frozen=True):
    """The app as its group's commits remember it."""

    changelogs: Mapping[str, AbstractSet[str]]  # changelog with records → source topics of the task
    repartitions: Collection[str]  # those that were read
    ancestries: Mapping[str, AbstractSet[str]]  # store → where it stood

    @classmethod
    def of(cls, app_id: str, commits: Iterable[tuple[str, str]]) -> Self:
        """From committed offsets' topics and metadata."""
        changelogs, stood = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        repartitions = dict[str, None]()
        for topic, text in commits:
            metadata = CommitMetadata.decode(text)
            for changelog, position in metadata.changelogs.items():
                if position and is_internal(app_id, changelog):  # whoever may commit may write anything
                    changelogs[changelog].add(topic)
            for store, ancestry in metadata.ancestries.items():
                stood[store].add(ancestry)
            if operator_of(app_id, topic):
                repartitions[topic] = None
        return cls(changelogs, tuple(repartitions), stood)


def check_succession(
    topology: Topology,
    commits: Iterable[tuple[str, str]],
    existing: Collection[str],
    abandoned: Collection[str] = (),
    is_drained: Callable[[str], bool] = lambda _: False,
) -> None:
    """Refuse to leave anything behind but what is `abandoned` by name. `existing`: topics. `is_drained`: has
    the group read all of a repartition topic?
    """
    former = Former.of(topology.app_id, commits)
    found = [
        one
        for one in losses(topology, former, existing)
        if one.kind == "swapped" or one.name not in abandoned  # another's state is no loss to accept
        if one.kind != "unread" or not is_drained(one.topic)
    ]
    if found:
        raise _refusal(topology.app_id, found)


def losses(topology: Topology, former: Former, existing: Collection[str]) -> Iterator[Loss]:
    """Whatever of the former app the present one does not take over."""
    subs = topology.subtopologies()
    reads = {sub.changelog(store): sub.topics for sub in subs for store in sub.stores}
    now, app_id = topology.ancestries, topology.app_id
    for changelog, fed_by in sorted(former.changelogs.items()):
        name = store_of(app_id, changelog)
        if changelog not in existing:
            continue
        if changelog not in reads:
            yield Loss(name=name, topic=changelog, kind="gone", now=_renamed(name, now, former))
        elif not fed_by & set(reads[changelog]):
            was, is_ = ", ".join(sorted(fed_by)), ", ".join(reads[changelog])
            yield Loss(name=name, topic=changelog, kind="moved", was=was, now=is_)
        elif other := _displaced(name, now, former):
            yield Loss(name=name, topic=changelog, kind="swapped", now=other)
    read = {topic for sub in subs for topic in sub.topics}
    for topic in sorted(former.repartitions):
        if topic in existing and topic not in read:
            yield Loss(name=operator_of(app_id, topic) or topic, topic=topic, kind="unread")


def _renamed(gone: str, now: Mapping[str, str], former: Former) -> str:
    """The store that stands where this one stood, if it is the only one."""
    stood = former.ancestries.get(gone, ())
    places = [name for name, ancestry in now.items() if ancestry in stood]
    return places[0] if len(places) == 1 else ""


def _displaced(name: str, now: Mapping[str, str], former: Former) -> str:
    """The store in whose place this one stands, and which stands elsewhere, or nowhere."""
    here = now[name]
    if name not in former.ancestries or here in former.ancestries[name]:
        return ""
    return next(
        (
            other
            for other, stood in former.ancestries.items()
            if here in stood and now.get(other) not in stood
        ),
        "",
    )


def _refusal(app_id: str, found: list[Loss]) -> RefusedError:
    names = list(dict.fromkeys(one.name for one in found if one.kind != "swapped"))
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    anew = "all state: streamkit app reset"
    if names:
        listed = " ".join(f"--abandon {name}" for name in names[:SHOWN])
        listed += " ..." if len(names) > SHOWN else ""
        anew = f"what it has: streamkit worker {listed}, or {anew}"
    return RefusedError(f"{_told(app_id, found[0])}{more}", hint=f"{_remedy(found[0])}; or give up {anew}")


def _told(app_id: str, loss: Loss) -> str:
    if loss.kind == "gone":
        called = f"; by its input, it is called {loss.now} now" if loss.now else ""
        return f"{app_id} has state of {loss.name}, which is declared no more{called}"
    if loss.kind == "moved":
        return f"{app_id} has state of {loss.name} from {loss.was}, but {loss.name} reads {loss.now} now"
    if loss.kind == "swapped":
        return f"{loss.name} stands where {loss.now} stood, and would take the state of another for its own"
    return f"nothing reads {loss.topic} any more: records on their way through it would be lost"


def _remedy(loss: Loss) -> str:
    if loss.kind == "gone":
        return f'give it its name back (name="{loss.name}"), or this app a name of its own'
    if loss.kind == "moved":
        return "give it another name, or its former input"
    if loss.kind == "swapped":
        return f'name it as before (name="{loss.now}"), or give both new names'
    return "name its operator as before; once the former version has read it to its end, nothing is lost"
