"""What the checks of a history found, and how much they looked at."""

from __future__ import annotations

from collections import defaultdict


class Findings:
    def __init__(self) -> None:
        self.violations: list[str] = []
        self.evaluations: dict[str, int] = defaultdict(int)

    def found(self, name: str, what: str) -> None:
        self.violations.append(f"{name}: {what}")
