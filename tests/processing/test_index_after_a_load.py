"""What a bulk load leaves behind in an index goes once it was met: no restart looks at it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import streamkit as sk
from streamkit.processing.state import changelog
from streamkit.processing.tasks.checkpoint import CommitMetadata
from tests.processing.conftest import SpillingStore
from tests.processing.lives import Lives, Slice, on_disk, undisturbed

KEYS, ROUNDS = 20, 12


def sessions() -> sk.App:
    app = sk.App("loaded")
    stream = app.stream(app.topic("in", key=str, value=int, partitions=1))
    stream.window(sk.session("1s", grace="2s")).aggregate(n=sk.Count()).to("out")
    return app


def once() -> sk.App:
    app = sk.App("loaded")
    stream = app.stream(app.topic("in", key=str, value=int, partitions=1))
    stream.deduplicate("5s", by=lambda v: v % 3).to("out")
    return app


def repeated() -> list[Slice]:
    """Each round touches every key anew."""
    return [
        ("in", [(b"k%d" % key, b"%d" % (number * 7 + key), number * 800) for key in range(KEYS)])
        for number in range(ROUNDS)
    ]


def loaded(lives: Lives, make_store: Callable[[str], Any]) -> Any:
    """What stands in the changelog up to the commit, a round at a time, in a new store."""
    [node] = lives.sub.stateful
    topic, store = lives.sub.changelog(node.name), make_store(node.name)
    index = node.make_index()
    assert index is not None
    store.keep_index(index)
    [(_, metadata)] = lives.commits.values()
    end, rows = CommitMetadata.decode(metadata).changelogs[topic], lives.log.partitions(topic)[0]
    with store.loading():
        for start in range(0, end, KEYS):
            changelog.apply(store, rows[start : start + KEYS], end)
    return store


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("build", [sessions, once])
def test_names_of_what_changed_while_it_was_loaded_go(build: Callable[[], sk.App]) -> None:
    lives = Lives(build(), repeated(), lambda _: SpillingStore())
    while lives.step():
        if not lives.task.behind:
            lives.commit()
    with on_disk() as make_store:
        store = loaded(lives, make_store)
        before = len(store.find(b"", None, 10_000))
        lives.stores = dict.fromkeys(lives.stores, store)
        lives.born()
        assert lives.end() == undisturbed(build(), repeated())
        lives.commit()
        assert before > 100 and not list(store.items())
        assert store.find(b"", None, 10_000) == []
        store.close()
