"""A cluster that does not answer is told of, and ends nobody who can wait."""

from __future__ import annotations

import pytest

from streamkit.errors import StreamkitError
from streamkit.processing.kafka import topics
from streamkit.processing.kafka.topics import Topics
from streamkit.processing.topology import TopicPlan


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Topics:
    monkeypatch.setattr(topics, "REQUEST_S", 0.1)
    return Topics("127.0.0.1:1", {})


def test_what_can_wait_is_passed_over(nowhere: Topics, caplog: pytest.LogCaptureFixture) -> None:
    nowhere.delete_records({("moved", 0): 5})
    nowhere.delete(["old"])
    assert nowhere.retention_ms(["out"]) == {}
    for words in ("moved keeps records", "the topic old stays", "retention of out is unknown"):
        assert words in caplog.text


def test_what_is_needed_is_an_error(nowhere: Topics) -> None:
    with pytest.raises(StreamkitError, match="cannot create the topic new"):
        nowhere.create([TopicPlan(name="new", partitions=1, config={}, internal=True)], {})
