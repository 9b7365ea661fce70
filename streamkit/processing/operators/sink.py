"""`to(topic)`: values leave for a topic with their key, event time and headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.serde import JSON_KEY, PLAIN_SERDES, UNDECLARED_KEY, checked_key
from streamkit.processing.topology import Node, TopicSpec

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Sink(Node):
    """A None value is written as a tombstone."""

    kind: ClassVar[str] = "sink"
    topic: TopicSpec[Any, Any]

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.topic.name,)

    @property
    def only_looks(self) -> bool:
        return self.topic.value in PLAIN_SERDES and (self.topic.key or UNDECLARED_KEY) in PLAIN_SERDES

    @property
    def detail(self) -> str:
        return f"topic {self.topic.name}, value {self.topic.value.name}"

    def generate(self, code: Code, at: At) -> None:
        put = code.outlet(code.runtime.outlet(self.topic.name))
        own = UNDECLARED_KEY if at.key_serde is JSON_KEY else at.key_serde  # JSON keys are for our own topics
        declared = self.topic.key or own
        same = declared == at.key_serde
        if not (same and at.raw):
            at = code.key(at)
        if declared.name != at.key_serde.name:
            declared = checked_key(declared, self.topic.name)
        key = code.encoded_key(at, declared, keep=same)
        value = code.encoded_value(at, self.topic.value)
        code.line(f"{put}(({value}, {key}, {code.timestamp(at)}, {code.headers(at)}, None))")
