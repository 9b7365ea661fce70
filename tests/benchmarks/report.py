"""A figure with its target, and the table that they make, section by section."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, kw_only=True):
    """`per_cpu`: the same rate by processor time of the measured process. Exactly one bound, or none."""

    name: str
    value: float
    unit: str
    per_cpu: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    met: bool | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None:
            self.met = self.value >= self.at_least
        elif self.at_most is not None:
            self.met = self.value <= self.at_most


class Section(msgspec.Struct):
    title: str
    figures: list[Figure]


def heading() -> str:
    return f"{'':<52} {'measured':>12} {'unit':<10} {'/CPU second':>12}  {'target':>12}"


def lines(section: Section) -> str:
    """Plain text, below the heading."""
    return "\n".join(["", section.title, *map(_line, section.figures)])


def _line(figure: Figure) -> str:
    per_cpu = "" if figure.per_cpu is None else _number(figure.per_cpu)
    target = verdict = ""
    if figure.at_least is not None:
        target = f"≥ {_number(figure.at_least)}"
    elif figure.at_most is not None:
        target = f"≤ {_number(figure.at_most)}"
    if figure.met is not None:
        verdict = "met" if figure.met else "not met"
    line = f"  {figure.name:<50} {_number(figure.value):>12} {figure.unit:<10} {per_cpu:>12}  {target:>12}"
    return f"{line} {verdict}".rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
