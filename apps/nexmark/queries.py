"""Nexmark's queries as streamkit apps: `app_of("q5")`, one app for each, all on the same three topics.

    streamkit worker apps.nexmark.queries:q5

What a query answers stands in the topic `nexmark-q5.out`. Query 6 has no answer that anybody agrees on: it is
left out. Query 12 measures by the worker's clock, so that two runs differ. A "day" is one of event time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

import streamkit as sk
from apps.nexmark.model import Auction, Bid, Person

PERSONS = "nexmark.persons"
AUCTIONS = "nexmark.auctions"
BIDS = "nexmark.bids"
SIDE = "nexmark.side"
SIDE_KEYS = 100
DOL_TO_EUR = 0.908
CHANNEL_IDS = {"apple": "0", "google": "1", "facebook": "2", "baidu": "3"}
CHANNEL_ID = re.compile(r"(?:&|^)channel_id=([^&]*)")
WEST = ("OR", "ID", "CA")


class Inputs:
    """The topics of an app, and their streams by event time."""

    def __init__(self, app: sk.App) -> None:
        self.app = app

    def persons(self) -> sk.Stream[int, Person]:
        return self._stream(PERSONS, Person)

    def auctions(self) -> sk.Stream[int, Auction]:
        return self._stream(AUCTIONS, Auction)

    def bids(self) -> sk.Stream[int, Bid]:
        return self._stream(BIDS, Bid)

    def bids_by_auction(self) -> sk.Stream[int, Bid]:
        return self.bids().group_by(lambda bid: bid.auction, key=int)

    def bids_as_they_come(self) -> sk.Stream[int, Bid]:
        """By processing time."""
        return self.app.stream(self._topic(BIDS, Bid), time="processing")

    def _topic(self, name: str, value: Any) -> sk.Topic[int, Any]:
        return self.app.topic(name, key=int, value=value)

    def _stream(self, name: str, value: Any) -> sk.Stream[int, Any]:
        topic = self._topic(name, value)
        return self.app.stream(topic, time=lambda event: event.time_ms / 1000, max_ahead=None)


Query = Callable[[Inputs, str], None]


# --- one record at a time ------------------------------------------------------------------------------


def _q0(inputs: Inputs, out: str) -> None:
    """Bids as they are."""
    inputs.bids().to(out)


def _q1(inputs: Inputs, out: str) -> None:
    """Prices in euros."""
    bids = inputs.bids()
    bids.map(lambda b: {"auction": b.auction, "price": b.price * DOL_TO_EUR, "time_ms": b.time_ms}).to(out)


def _q2(inputs: Inputs, out: str) -> None:
    """Bids for some auctions."""
    chosen = inputs.bids().filter(lambda bid: bid.auction % 123 == 0)
    chosen.map(lambda bid: {"auction": bid.auction, "price": bid.price}).to(out)


def _q13(inputs: Inputs, out: str) -> None:
    """Bids with a value from a small table at the side."""
    side = inputs.app.global_table(inputs.app.topic(SIDE, key=int, value=str))

    def joined(bid: Bid, value: str) -> dict[str, Any]:
        return {"auction": bid.auction, "time_ms": bid.time_ms, "value": value}

    inputs.bids().join(side, joined, on=lambda bid: bid.auction % SIDE_KEYS).to(out)


def _time_of_day(time_ms: int) -> str:
    hour = time_ms // 3_600_000 % 24
    if 8 <= hour <= 18:
        return "day"
    return "night" if hour <= 6 or hour >= 20 else "other"


def _q14(inputs: Inputs, out: str) -> None:
    """Expensive bids, computed with and looked into."""

    def described(bid: Bid) -> dict[str, Any]:
        return {
            "auction": bid.auction,
            "price": DOL_TO_EUR * bid.price,
            "time": _time_of_day(bid.time_ms),
            "c_counts": bid.extra.count("c"),
        }

    inputs.bids().filter(lambda bid: 1_000_000 < DOL_TO_EUR * bid.price < 50_000_000).map(described).to(out)


def _channel_id(bid: Bid) -> str | None:
    known = CHANNEL_IDS.get(bid.channel.lower())
    if known is not None:
        return known
    found = CHANNEL_ID.search(bid.url)
    return None if found is None else found[1]


def _q21(inputs: Inputs, out: str) -> None:
    """The id of each bid's channel, by its name or out of its URL."""
    bids = inputs.bids().filter(lambda bid: _channel_id(bid) is not None)
    bids.map(lambda bid: {"time_ms": bid.time_ms, "channel": bid.channel, "id": _channel_id(bid)}).to(out)


def _q22(inputs: Inputs, out: str) -> None:
    """The first three directories of each bid's URL."""

    def directories(bid: Bid) -> dict[str, Any]:
        parts = bid.url.split("/")
        return {"time_ms": bid.time_ms, "dir1": parts[3], "dir2": parts[4], "dir3": parts[5]}

    inputs.bids().map(directories).to(out)


# --- joins ---------------------------------------------------------------------------------------------


def _q3(inputs: Inputs, out: str) -> None:
    """Who sells in category 10, in three states."""
    sellers = inputs.persons().filter(lambda person: person.state in WEST).to_table()
    auctions = inputs.auctions().filter(lambda auction: auction.category == 10).to_table()

    def joined(auction: Auction, person: Person) -> dict[str, Any]:
        return {"name": person.name, "city": person.city, "state": person.state, "auction": auction.id}

    auctions.join(sellers, joined, on=lambda auction: auction.seller).to(out)


def _q8(inputs: Inputs, out: str) -> None:
    """Who registered and opened an auction within the same ten seconds."""
    names = inputs.persons().map(lambda person: person.name, name="names")
    registered = names.group_by(lambda name, record: record.key, key=int, value=str)
    sellers = inputs.auctions().group_by(lambda auction: auction.seller, key=int, value=Auction)
    both = registered.merge(sellers.map(_no_name, name="sales"))
    seen = both.window(sk.tumbling("10s")).aggregate(names=sk.Collect())
    new = seen.filter(lambda window: "" in window["names"] and any(window["names"]))
    new.map(lambda w: {"id": w["key"], "name": max(w["names"]), "start_ms": w["start_ms"]}).to(out)


def _no_name(auction: Auction) -> str:
    return ""


def _q20(inputs: Inputs, out: str) -> None:
    """Bids with the auction that they are for, in category 10."""
    auctions = inputs.auctions().group_by(lambda auction: auction.id, key=int).to_table()

    def joined(bid: Bid, auction: Auction) -> dict[str, Any]:
        return {"auction": bid.auction, "price": bid.price, "time_ms": bid.time_ms, "item": auction.item,
                "category": auction.category}  # fmt: skip

    bids = inputs.bids_by_auction().join(auctions, joined)
    bids.filter(lambda row: row["category"] == 10).to(out)


# --- auctions and their winners ------------------------------------------------------------------------


class Bidding(msgspec.Struct):
    """What is known of an auction: its bids may be read before it is, and there are bids after its end."""

    auction: Auction | None = None
    bids: list[Bid] = []
    is_over: bool = False


FORGET_S = 60
"""Nobody bids for an auction that ended so long ago."""


def _watch(event: Auction | Bid, context: sk.Context[int, Bidding]) -> None:
    bidding = context.state or Bidding()
    if bidding.is_over:
        return
    if isinstance(event, Bid):
        context.state = Bidding(bidding.auction, _best(bidding.auction, [*bidding.bids, event]))
    else:
        context.state = Bidding(event, _best(event, bidding.bids))
        context.set_timer(event.expires_ms / 1000)


def _best(auction: Auction | None, bids: list[Bid]) -> list[Bid]:
    """The highest of the bids that count, in a list; all of them as long as the auction is unknown."""
    if auction is None:
        return bids
    valid = [bid for bid in bids if auction.time_ms <= bid.time_ms < auction.expires_ms]
    return sorted(valid, key=lambda bid: (-bid.price, bid.time_ms))[:1]


def _ended(context: sk.Context[int, Bidding]) -> list[dict[str, Any]]:
    bidding = context.state
    if bidding is None or bidding.is_over or bidding.auction is None:
        context.state = None
        return []
    auction = bidding.auction
    context.state = Bidding(is_over=True)
    context.set_timer(auction.expires_ms / 1000 + FORGET_S)
    return [
        {"auction": auction.id, "category": auction.category, "bidder": bid.bidder, "price": bid.price,
         "time_ms": bid.time_ms}
        for bid in bidding.bids
    ]  # fmt: skip


def _winners(inputs: Inputs) -> sk.Stream[int, dict[str, Any]]:
    """The winning bid of each auction, once that ends."""
    auctions = inputs.auctions().group_by(lambda auction: auction.id, key=int, value=Auction)
    either = auctions.map(_itself, name="auctions").merge(inputs.bids_by_auction().map(_itself, name="bids"))
    return either.process(_watch, state=Bidding, on_timer=_ended)


def _itself(event: Any) -> Any:
    return event


def _q9(inputs: Inputs, out: str) -> None:
    """The winning bid of each auction."""
    _winners(inputs).to(out)


def _q4(inputs: Inputs, out: str) -> None:
    """The average of the winning prices, by category."""

    def average(row: dict[str, Any], context: sk.Context[int, list[int]]) -> list[dict[str, Any]]:
        count, total = context.state or (0, 0)
        count, total = context.state = [count + 1, total + row["price"]]
        return [{"category": context.key, "average": total / count, "count": count}]

    by_category = _winners(inputs).group_by(lambda row: row["category"], key=int)
    by_category.process(average, state=list[int]).to(out)


# --- windows -------------------------------------------------------------------------------------------


def _best_by(field: str) -> sk.Aggregation:
    """All rows that share the greatest value of a field."""

    def add(best: list[Any], row: Any) -> list[Any]:
        if best and row[field] < best[0][field]:
            return best
        return [*best, row] if best and row[field] == best[0][field] else [row]

    def join(left: list[Any], right: list[Any]) -> list[Any]:
        for row in right:
            left = add(left, row)
        return left

    return sk.Aggregate(start=list, add=add, join=join, finish=list)


def _q5(inputs: Inputs, out: str) -> None:
    """The auctions with the most bids in the last ten seconds, every two."""
    counts = inputs.bids_by_auction().window(sk.hopping("10s", "2s")).aggregate(n=sk.Count())
    rows = counts.map(lambda w: {"auction": w["key"], "n": w["n"], "end_ms": w["end_ms"]})
    hottest = rows.window_all(sk.tumbling("2s")).aggregate(best=_best_by("n"))
    hottest.flat_map(lambda window: window["best"]).to(out)


def _q7(inputs: Inputs, out: str) -> None:
    """The highest bids of each ten seconds."""
    rows = inputs.bids().map(
        lambda bid: {"auction": bid.auction, "bidder": bid.bidder, "price": bid.price, "time_ms": bid.time_ms}
    )
    best = rows.window_all(sk.tumbling("10s")).aggregate(best=_best_by("price"))
    best.flat_map(lambda window: window["best"]).to(out)


def _q11(inputs: Inputs, out: str) -> None:
    """How many bids each person made in a session that ends with ten seconds of silence."""
    by_bidder = inputs.bids().group_by(lambda bid: bid.bidder, key=int)
    sessions = by_bidder.window(sk.session("10s")).aggregate(n=sk.Count())
    sessions.map(lambda w: {"bidder": w["key"], "n": w["n"], "start_ms": w["start_ms"]}).to(out)


def _q12(inputs: Inputs, out: str) -> None:
    """How many bids each person made in each ten seconds of the worker's clock."""
    by_bidder = inputs.bids_as_they_come().group_by(lambda bid: bid.bidder, key=int)
    counts = by_bidder.window(sk.tumbling("10s")).aggregate(n=sk.Count())
    counts.map(lambda w: {"bidder": w["key"], "n": w["n"], "start_ms": w["start_ms"]}).to(out)


def _rank(low: float, high: float) -> Callable[[Bid], int]:
    return lambda bid: low <= bid.price < high


RANKS = {"low": (0, 10_000), "middle": (10_000, 1_000_000), "high": (1_000_000, float("inf"))}


def _ranks() -> dict[str, sk.Aggregation]:
    return {f"n_{name}": sk.Sum(_rank(*bounds)) for name, bounds in RANKS.items()}


def _people() -> dict[str, sk.Aggregation]:
    found: dict[str, sk.Aggregation] = {}
    for name, (low, high) in {"all": (0, float("inf")), **RANKS}.items():
        found[f"bidders_{name}"] = _distinct("bidder", low, high)
        found[f"auctions_{name}"] = _distinct("auction", low, high)
    return found


def _distinct(field: str, low: float, high: float) -> sk.Aggregation:
    """How many values a field has among the bids of these prices."""

    def add(seen: dict[str, int], bid: Bid) -> dict[str, int]:
        if low <= bid.price < high:
            seen[str(getattr(bid, field))] = 1
        return seen

    return sk.Aggregate(start=dict, add=add, join=lambda a, b: {**a, **b}, finish=len)


def _without_window(window: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in window.items() if name not in ("start_ms", "end_ms")}


def _q15(inputs: Inputs, out: str) -> None:
    """How many bids, bidders and auctions there are in a day, by price."""
    day = inputs.bids().window_all(sk.tumbling("1d")).aggregate(n=sk.Count(), **_ranks(), **_people())
    day.map(_without_window).to(out)


def _q16(inputs: Inputs, out: str) -> None:
    """The same for each channel."""
    by_channel = inputs.bids().group_by(lambda bid: bid.channel, key=str)
    day = by_channel.window(sk.tumbling("1d")).aggregate(n=sk.Count(), **_ranks(), **_people())
    day.map(_without_window).to(out)


def _q17(inputs: Inputs, out: str) -> None:
    """The bids of each auction in a day."""
    day = inputs.bids_by_auction().window(sk.tumbling("1d"))
    results = day.aggregate(
        n=sk.Count(), **_ranks(), min=sk.Min("price"), max=sk.Max("price"), mean=sk.Mean("price"),
        total=sk.Sum("price"),
    )  # fmt: skip
    results.map(_without_window).to(out)


def _q18(inputs: Inputs, out: str) -> None:
    """The last bid of each person in each auction."""
    by_both = inputs.bids().group_by(lambda bid: f"{bid.bidder} {bid.auction}", key=str)
    last = by_both.to_table()
    last.to(out)


def _q19(inputs: Inputs, out: str) -> None:
    """The ten highest bids of each auction, whenever they change."""

    def top(bid: Bid, context: sk.Context[int, list[tuple[int, int]]]) -> Iterable[dict[str, Any]]:
        before = context.state or []
        best = sorted([*before, (bid.price, bid.time_ms)], key=lambda row: (-row[0], row[1]))[:10]
        if best == before:
            return []
        context.state = best
        return [{"auction": context.key, "best": best}]

    inputs.bids_by_auction().process(top, state=list[tuple[int, int]]).to(out)


QUERIES: dict[str, Query] = {
    name.removeprefix("_"): query for name, query in sorted(globals().items()) if re.fullmatch(r"_q\d+", name)
}


def app_of(name: str, **settings: Any) -> sk.App:
    """The app that answers this query."""
    app = sk.App(f"nexmark-{name}", **settings)
    QUERIES[name](Inputs(app), f"nexmark-{name}.out")
    return app


def __getattr__(name: str) -> sk.App:
    if name in QUERIES:
        return app_of(name)
    raise AttributeError(name)
