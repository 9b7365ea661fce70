"""State that a class of today cannot read is told of as such: not as an error of the record in hand."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.errors import RefusedError

pytestmark = pytest.mark.usefixtures("each_store")


class Cart:
    """Kept as its number; what the class of a later version cannot read is said by `lacks`."""

    lacks = ""

    @staticmethod
    def decode(data: bytes) -> int:
        if Cart.lacks:
            raise ValueError(f"Object missing required field `{Cart.lacks}`")
        return int(data)


CART: sk.Serde[int] = sk.Serde("json:shop.Cart", encode=lambda n: b"%d" % n, decode=Cart.decode)


@pytest.fixture
def later_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cart, "lacks", "")


def processed(app: sk.App, items: sk.Topic[str, int]) -> None:
    def add(n: int, context: sk.Context[str, int]) -> None:
        context.state = (context.state or 0) + n

    app.stream(items).process(add, state=CART, name="carts")  # type: ignore[arg-type]


def tabled(app: sk.App, items: sk.Topic[str, int]) -> None:
    carts = app.table("carts", key=str, value=CART, default=int)

    @app.agent(items)
    def add(n: int, record: sk.Record[str]) -> None:
        carts[record.key] += n


def outlived(app: sk.App, items: sk.Topic[str, int]) -> None:
    carts = app.table("carts", key=str, value=CART, default=int, ttl="1d")

    @app.agent(items)
    def add(n: int, record: sk.Record[str]) -> None:
        carts[record.key] += n


def followed(app: sk.App, items: sk.Topic[str, int]) -> None:
    rows = app.table_from(app.topic("rows", key=str, value=CART), name="carts")
    app.stream(items).join(rows, lambda n, row: n)


def joined(app: sk.App, items: sk.Topic[str, int]) -> None:
    rows = app.stream(app.topic("rows", key=str, value=CART))
    rows.join(app.stream(items), lambda row, n: n, within="1h", name="carts")


@pytest.mark.parametrize("build", [processed, tabled, outlived, followed, joined])
@pytest.mark.usefixtures("later_class")
def test_it_names_the_store_and_what_to_do(build: object) -> None:
    app = sk.App("shop", on_error=sk.Fail())
    items = app.topic("items", key=str, value=int)
    build(app, items)  # type: ignore[operator]
    with app.test() as t:
        if build in (followed, joined):
            t.send("rows", 1, key="ann", ts=1)
        t.send(items, 1, key="ann", ts=1)
        Cart.lacks = "extra"
        with pytest.raises(
            RefusedError, match=r"carts holds .* an earlier shop\.Cart wrote: .* `extra`"
        ) as said:
            t.restart()
            t.send(items, 1, key="ann", ts=2)
        assert "a default" in said.value.hint
