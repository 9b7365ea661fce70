"""However a script is run, `python shop.py` or `streamkit worker shop.py`, its state is the same."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import streamkit as sk

SHOP = """
import sys

import msgspec

import streamkit as sk


class Order(msgspec.Struct):
    n: int


class Sum(msgspec.Struct):
    n: int = 0


app = sk.App("shop")
orders = app.topic("in", key=str, value=Order)
rows = app.table("rows", key=str, value=Sum, default=Sum)


def add(order: Order, context: sk.Context[str, Sum]) -> None:
    context.state = Sum(order.n)


app.stream(orders).process(add, state=Sum, name="sums")


@app.agent(orders)
def put(order: Order, record: sk.Record[str]) -> None:
    rows[record.key] = Sum(order.n)


def commit() -> str:
    with app.test() as t:
        t.send(orders, Order(1), key="k")
        return t._commits["in", 0][1]


def resume(metadata: str) -> None:
    with app.test() as t:
        t.tasks[0].resume(("in", 0), metadata, 1)


if __name__ == "__main__":
    if sys.argv[1:]:
        resume(sys.argv[1])
    print(commit())
"""
# what such a script committed while its classes were called __main__.Sum
FORMER = '{"stores":{"rows":"0c7f1d1c","sums":"dfedca25"}}'


@pytest.mark.parametrize("words", [["shop.py"], ["-m", "shop"]])
def test_what_a_script_keeps_is_taken_up_where_it_is_imported(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    spec = importlib.util.spec_from_file_location("shop", tmp_path / "shop.py")
    assert spec is not None and spec.loader is not None
    shop = importlib.util.module_from_spec(spec)
    sys.modules["shop"] = shop
    try:
        spec.loader.exec_module(shop)
        by_script = run(tmp_path, *words, shop.commit())
        assert by_script == shop.commit()
        shop.resume(by_script)
    finally:
        del sys.modules["shop"]


def test_what_scripts_of_former_versions_kept_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    run(tmp_path, "shop.py", FORMER)


def run(directory: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=directory,
        env={"PYTHONPATH": str(Path(sk.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
