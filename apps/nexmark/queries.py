"""Nexmark's queries as streamkit apps: `app_of("q5")`, one app for each, all on the same three topics.

    streamkit worker apps.nexmark.queries:q5

What a query answers stands in the topic `nexmark-q5.out`, in the columns of the published SQL. Queries 4, 18
and 19 correct themselves: of each category, of each person in each auction, and of each place in each auction
the last row counts. Days, as windows, are told once they are over.

Left out are query 6, which has no answer that anybody agrees on, and query 10, which writes files by the
worker's clock. Query 12 measures by that clock too, so that two runs differ.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

import streamkit as sk
from apps.nexmark.model import Auction, Bid, Person

PERSONS = "nexmark.persons"
AUCTIONS = "nexmark.auctions"
BIDS = "nexmark.bids"
SIDE = "nexmark.side"
SIDE_KEYS = 10_000
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

    def in_euros(bid: Bid) -> dict[str, Any]:
        return {"auction": bid.auction, "bidder": bid.bidder, "price": DOL_TO_EUR * bid.price,
                "time_ms": bid.time_ms, "extra": bid.extra}  # fmt: skip

    inputs.bids().map(in_euros).to(out)


def _q2(inputs: Inputs, out: str) -> None:
    """Bids for some auctions."""
    chosen = inputs.bids().filter(lambda bid: bid.auction % 123 == 0)
    chosen.map(lambda bid: {"auction": bid.auction, "price": bid.price}).to(out)


def _q13(inputs: Inputs, out: str) -> None:
    """Bids with a value from a small table at the side."""
    side = inputs.app.global_table(inputs.app.topic(SIDE, key=int, value=str))

    def joined(bid: Bid, value: str) -> dict[str, Any]:
        return {"auction": bid.auction, "bidder": bid.bidder, "price": bid.price, "time_ms": bid.time_ms,
                "value": value}  # fmt: skip

    inputs.bids().join(side, joined, on=lambda bid: bid.auction % SIDE_KEYS).to(out)


def _time_of_day(time_ms: int) -> str:
    hour = time_ms // 3_600_000 % 24
    if 8 <= hour <= 18:
        return "dayTime"
    return "nightTime" if hour <= 6 or hour >= 20 else "otherTime"


def _q14(inputs: Inputs, out: str) -> None:
    """Expensive bids, computed with and looked into."""

    def described(bid: Bid) -> dict[str, Any]:
        return {
            "auction": bid.auction,
            "bidder": bid.bidder,
            "price": DOL_TO_EUR * bid.price,
            "bid_time_type": _time_of_day(bid.time_ms),
            "time_ms": bid.time_ms,
            "extra": bid.extra,
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

    def identified(bid: Bid) -> dict[str, Any]:
        return {"auction": bid.auction, "bidder": bid.bidder, "price": bid.price, "channel": bid.channel,
                "channel_id": _channel_id(bid)}  # fmt: skip

    inputs.bids().map(identified).filter(lambda row: row["channel_id"] is not None).to(out)


def _q22(inputs: Inputs, out: str) -> None:
    """The first three directories of each bid's URL."""

    def directories(bid: Bid) -> dict[str, Any]:
        parts = bid.url.split("/")
        return {"auction": bid.auction, "bidder": bid.bidder, "price": bid.price, "channel": bid.channel,
                "dir1": parts[3], "dir2": parts[4], "dir3": parts[5]}  # fmt: skip

    inputs.bids().map(directories).to(out)


# --- joins ---------------------------------------------------------------------------------------------


def _q3(inputs: Inputs, out: str) -> None:
    """Who sells in category 10, in three states."""
    sellers = inputs.persons().filter(lambda person: person.state in WEST).to_table()
    auctions = inputs.auctions().filter(lambda auction: auction.category == 10).to_table()

    def joined(auction: Auction, person: Person) -> dict[str, Any]:
        return {"name": person.name, "city": person.city, "state": person.state, "id": auction.id}

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
    chosen = inputs.auctions().filter(lambda auction: auction.category == 10)
    auctions = chosen.group_by(lambda auction: auction.id, key=int).to_table()

    def joined(bid: Bid, auction: Auction) -> dict[str, Any]:
        return {
            "auction": bid.auction, "bidder": bid.bidder, "price": bid.price, "channel": bid.channel,
            "url": bid.url, "bid_time_ms": bid.time_ms, "bid_extra": bid.extra,
            "item_name": auction.item_name, "description": auction.description,
            "initial_bid": auction.initial_bid, "reserve": auction.reserve,
            "auction_time_ms": auction.time_ms, "expires_ms": auction.expires_ms,
            "seller": auction.seller, "category": auction.category, "auction_extra": auction.extra,
        }  # fmt: skip

    inputs.bids_by_auction().join(auctions, joined).to(out)


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
        if bidding.auction and bidding.bids and event.price < bidding.bids[0].price:
            return
        context.state = Bidding(bidding.auction, _best(bidding.auction, [*bidding.bids, event]))
    else:
        context.state = Bidding(event, _best(event, bidding.bids))
        context.set_timer((event.expires_ms + 1) / 1000)  # a bid of that very millisecond counts


def _best(auction: Auction | None, bids: list[Bid]) -> list[Bid]:
    """The highest of the bids that count, in a list; all of them as long as the auction is unknown."""
    if auction is None:
        return bids
    valid = [bid for bid in bids if auction.time_ms <= bid.time_ms <= auction.expires_ms]
    return sorted(valid, key=lambda bid: (-bid.price, bid.time_ms))[:1]


def _ended(context: sk.Context[int, Bidding]) -> list[tuple[Auction, Bid]]:
    bidding = context.state
    if bidding is None or bidding.is_over or bidding.auction is None:
        context.state = None
        return []
    auction = bidding.auction
    context.state = Bidding(is_over=True)
    context.set_timer(auction.expires_ms / 1000 + FORGET_S)
    return [(auction, bid) for bid in bidding.bids]


def _winners(inputs: Inputs) -> sk.Stream[int, tuple[Auction, Bid]]:
    """Each auction with its winning bid, once it is over."""
    auctions = inputs.auctions().group_by(lambda auction: auction.id, key=int, value=Auction)
    either = auctions.map(_itself, name="auctions").merge(inputs.bids_by_auction().map(_itself, name="bids"))
    return either.process(_watch, state=Bidding, on_timer=_ended)


def _itself(event: Any) -> Any:
    return event


def _q9(inputs: Inputs, out: str) -> None:
    """The winning bid of each auction."""

    def won(pair: tuple[Auction, Bid]) -> dict[str, Any]:
        auction, bid = pair
        return {**msgspec.structs.asdict(auction), "auction": bid.auction, "bidder": bid.bidder,
                "price": bid.price, "bid_time_ms": bid.time_ms, "bid_extra": bid.extra}  # fmt: skip

    _winners(inputs).map(won).to(out)


def _q4(inputs: Inputs, out: str) -> None:
    """The average of the winning prices, by category."""

    def average(row: dict[str, int], context: sk.Context[int, list[int]]) -> list[dict[str, Any]]:
        count, total = context.state or (0, 0)
        count, total = context.state = [count + 1, total + row["price"]]
        return [{"category": context.key, "average": total / count}]

    def final(pair: tuple[Auction, Bid]) -> dict[str, int]:
        auction, bid = pair
        return {"category": auction.category, "price": bid.price}

    by_category = _winners(inputs).map(final).group_by(lambda row: row["category"], key=int)
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
    rows = counts.map(lambda w: {"auction": w["key"], "num": w["n"], "end_ms": w["end_ms"]})
    hottest = rows.window_all(sk.tumbling("2s")).aggregate(best=_best_by("num"))
    hottest.flat_map(lambda window: window["best"]).to(out)


def _q7(inputs: Inputs, out: str) -> None:
    """The highest bids of each ten seconds."""

    def row(bid: Bid) -> dict[str, Any]:
        return {"auction": bid.auction, "bidder": bid.bidder, "price": bid.price, "time_ms": bid.time_ms,
                "extra": bid.extra}  # fmt: skip

    best = inputs.bids().map(row).window_all(sk.tumbling("10s")).aggregate(best=_best_by("price"))
    best.flat_map(lambda window: window["best"]).to(out)


def _q11(inputs: Inputs, out: str) -> None:
    """How many bids each person made in a session that ends with ten seconds of silence."""

    def row(session: dict[str, Any]) -> dict[str, Any]:
        return {"bidder": session["key"], "bid_count": session["n"], "start_ms": session["start_ms"],
                "end_ms": session["end_ms"] + 10_000}  # fmt: skip

    by_bidder = inputs.bids().group_by(lambda bid: bid.bidder, key=int)
    by_bidder.window(sk.session("10s")).aggregate(n=sk.Count()).map(row).to(out)


def _q12(inputs: Inputs, out: str) -> None:
    """How many bids each person made in each ten seconds of the worker's clock."""

    def row(window: dict[str, Any]) -> dict[str, Any]:
        return {"bidder": window["key"], "bid_count": window["n"], "start_ms": window["start_ms"],
                "end_ms": window["end_ms"]}  # fmt: skip

    by_bidder = inputs.bids_as_they_come().group_by(lambda bid: bid.bidder, key=int)
    by_bidder.window(sk.tumbling("10s")).aggregate(n=sk.Count()).map(row).to(out)


def _is_cheap(bid: Bid) -> bool:
    return bid.price < 10_000


def _is_fair(bid: Bid) -> bool:
    return 10_000 <= bid.price < 1_000_000


def _is_dear(bid: Bid) -> bool:
    return bid.price >= 1_000_000


def _by_price(what: str, aggregation: sk.Aggregation) -> dict[str, sk.Aggregation]:
    """An aggregation of all bids, and of those at each of three ranks."""
    return {
        f"total_{what}": aggregation,
        f"rank1_{what}": aggregation.where(_is_cheap),
        f"rank2_{what}": aggregation.where(_is_fair),
        f"rank3_{what}": aggregation.where(_is_dear),
    }


BIDS_BY_PRICE = _by_price("bids", sk.Count())
EVERYTHING_BY_PRICE = {
    **BIDS_BY_PRICE,
    **_by_price("bidders", sk.CountDistinct("bidder")),
    **_by_price("auctions", sk.CountDistinct("auction")),
}


def _utc(time_ms: int, form: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)


def _of_day(window: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """A row: these columns, the day, and what was aggregated."""
    totals = {name: value for name, value in window.items() if name not in ("key", "start_ms", "end_ms")}
    return {**columns, "day": _utc(window["start_ms"], "%Y-%m-%d"), **totals}


def _q15(inputs: Inputs, out: str) -> None:
    """How many bids, bidders and auctions there are in a day, by price."""
    day = inputs.bids().window_all(sk.tumbling("1d"))
    day.aggregate(**EVERYTHING_BY_PRICE).map(_of_day).to(out)


def _q16(inputs: Inputs, out: str) -> None:
    """The same for each channel, with the time of its last bid."""

    def row(window: dict[str, Any]) -> dict[str, Any]:
        minute = _utc(window.pop("last_ms"), "%H:%M")
        return {"channel": window["key"], **_of_day(window, minute=minute)}

    day = inputs.bids().group_by(lambda bid: bid.channel, key=str).window(sk.tumbling("1d"))
    day.aggregate(last_ms=sk.Max("time_ms"), **EVERYTHING_BY_PRICE).map(row).to(out)


def _q17(inputs: Inputs, out: str) -> None:
    """The bids of each auction in a day."""
    day = inputs.bids_by_auction().window(sk.tumbling("1d"))
    totals = day.aggregate(
        **BIDS_BY_PRICE, min_price=sk.Min("price"), max_price=sk.Max("price"), avg_price=sk.Mean("price"),
        sum_price=sk.Sum("price"),
    )  # fmt: skip
    totals.map(lambda window: _of_day(window, auction=window["key"])).to(out)


def _q18(inputs: Inputs, out: str) -> None:
    """The last bid of each person in each auction."""
    inputs.bids().group_by(lambda bid: f"{bid.bidder} {bid.auction}", key=str).to_table().to(out)


TOP = 10


def _by_rank(bid: Bid) -> tuple[int, int]:
    """Of equal prices the first is ahead, also where it comes later: bids come from several partitions."""
    return -bid.price, bid.time_ms


def _q19(inputs: Inputs, out: str) -> None:
    """The ten highest bids of each auction: the places that change with a bid."""

    def places(bid: Bid, context: sk.Context[int, list[Bid]]) -> Iterable[dict[str, Any]]:
        best = context.state or []
        place = bisect_right(best, _by_rank(bid), key=_by_rank)
        if place == TOP:
            return []
        context.state = best = [*best[:place], bid, *best[place : TOP - 1]]
        return [
            {**msgspec.structs.asdict(moved), "rank_number": number}
            for number, moved in enumerate(best[place:], place + 1)
        ]

    inputs.bids_by_auction().process(places, state=list[Bid]).to(out)


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
