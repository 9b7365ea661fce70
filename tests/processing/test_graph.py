"""The drawing of an app: every operator, topic and store once, and every arrow between two of them."""

from __future__ import annotations

import re

import pytest

import apps.flights
import apps.wordcount
import streamkit as sk
from streamkit.processing.graph import mermaid


def parsed(text: str) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Label by id, and the arrows."""
    labels = {m[1]: m[2] for m in re.finditer(r'^ +(\w+)(?:\(\[|\[\(|\[)"(.*)"', text, re.M)}
    arrows = {(m[1], m[2]) for m in re.finditer(r"^ +(\w+) (?:-->|-\.-) (\w+)$", text, re.M)}
    return labels, arrows


@pytest.mark.parametrize("app", [apps.flights.app, apps.wordcount.app], ids=lambda app: app.id)
def test_everything_is_drawn_once(app: sk.App) -> None:
    topology = app.topology()
    text = mermaid(topology)
    labels, arrows = parsed(text)
    assert text.startswith("flowchart LR\n")
    assert len(set(labels.values())) == len(labels)
    for node in topology.nodes:
        assert any(label == node.name or label.endswith(f" {node.name}") for label in labels.values())
        assert set(node.writes) <= set(labels.values())
    assert {end for arrow in arrows for end in arrow} <= set(labels)
    assert arrows


def test_a_repartition_topic_stands_between_two_tasks() -> None:
    app = sk.App("shop")
    orders = app.topic("orders", value=dict)
    counted = orders.stream().group_by(lambda order: order["item"], key=str, name="by-item")
    counted.window(sk.tumbling("1m")).aggregate(n=sk.Count(), name="per-minute").to("counts")
    labels, arrows = parsed(mermaid(app.topology()))
    ids = {label: name for name, label in labels.items()}
    repartition = ids["shop-by-item-repartition"]
    assert (ids["group-by by-item"], repartition) in arrows
    assert (repartition, ids["window per-minute"]) in arrows
    assert (ids["window per-minute"], ids["state per-minute"]) in arrows, "its store"
