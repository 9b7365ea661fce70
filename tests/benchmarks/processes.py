"""Processes under measurement, and clients in processes of their own, so that neither pays for the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Rate(NamedTuple):
    """Operations a second of wall time, and a second of the measured process's processor time."""

    per_second: float
    per_cpu_second: float

    def times(self, factor: float) -> Rate:
        return Rate(self.per_second * factor, self.per_cpu_second * factor)


class Stopwatch:
    """Wall time, and processor time in process `pid`, since construction."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s = cpu_seconds(pid)
        self._began = time.perf_counter()

    def rate(self, operations: float) -> Rate:
        wall_s = time.perf_counter() - self._began
        cpu_s = max(cpu_seconds(self._pid) - self._cpu_s, 1 / TICKS)
        return Rate(operations / wall_s, operations / cpu_s)


def middle(rates: list[Rate]) -> Rate:
    """The median of each column."""
    return Rate(median(r.per_second for r in rates), median(r.per_cpu_second for r in rates))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


def own_bytes(pid: int) -> int:
    """What is resident of a process, without pages of files: those are shared, and can be read again."""
    with open(f"/proc/{pid}/statm") as file:
        _, resident, of_files, *_ = file.read().split()
    return (int(resident) - int(of_files)) * PAGE_BYTES


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `function` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()
