"""`merge`: the records of several streams as one; order holds within each input, not between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streamkit.processing.topology import Node


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge(Node):
    kind: ClassVar[str] = "merge"

    @property
    def only_looks(self) -> bool:
        return True

    @property
    def detail(self) -> str:
        return " + ".join(parent.name for parent in self.parents)
