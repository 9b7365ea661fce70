"""Nexmark's events: of 50, one person, three auctions, and 46 bids; always the same ones for a seed.

Half of the bids go to a few hot auctions, made lately; prices are spread over several powers of ten.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from apps.nexmark.model import Auction, Bid, Event, Person

FIRST_ID = 1000
BEGIN_MS = 1_700_000_000_000
STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
CITIES = ("Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle")
FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
CATEGORIES = 5
FIRST_CATEGORY = 10
IN_FLIGHT = 100
"""Auctions that are bid for at a time."""
HOT_EVERY = 100
PERSON_OF = 50
AUCTIONS_OF = 3


def events(count: int, seed: int = 1, step_ms: int = 1) -> Iterator[Event]:
    """The first `count` events, so many milliseconds apart."""
    draw = random.Random(seed)
    people = auctions = 0
    for number in range(count):
        time_ms = BEGIN_MS + number * step_ms
        rest = number % PERSON_OF
        if rest == 0:
            yield _person(FIRST_ID + people, time_ms, draw)
            people += 1
        elif rest <= AUCTIONS_OF:
            yield _auction(FIRST_ID + auctions, people, time_ms, draw)
            auctions += 1
        else:
            yield _bid(auctions, people, time_ms, draw)


def _person(id: int, time_ms: int, draw: random.Random) -> Person:
    name = f"{draw.choice(FIRST_NAMES)} {draw.choice(LAST_NAMES)}"
    return Person(id, name, draw.choice(CITIES), draw.choice(STATES), time_ms)


def _auction(id: int, people: int, time_ms: int, draw: random.Random) -> Auction:
    initial = _price(draw)
    return Auction(
        id=id,
        item=f"item {draw.randrange(10_000)}",
        initial_bid=initial,
        reserve=initial + _price(draw),
        expires_ms=time_ms + draw.randint(500, 5_000),
        seller=_recent(people, draw),
        category=FIRST_CATEGORY + draw.randrange(CATEGORIES),
        time_ms=time_ms,
    )


def _bid(auctions: int, people: int, time_ms: int, draw: random.Random) -> Bid:
    hot = (auctions - 1) // HOT_EVERY * HOT_EVERY
    oldest = max(0, auctions - IN_FLIGHT)
    auction = max(hot, oldest) if draw.random() < 0.5 else draw.randrange(oldest, auctions)
    channel = draw.choice(CHANNELS) if draw.random() < 0.5 else f"channel-{draw.randrange(1000)}"
    path = "/".join(draw.choice("abcdefgh") * 3 for _ in range(3))
    url = f"https://www.nexmark.com/{path}/item.htm?query=1"
    if channel.startswith("channel-") and draw.random() < 0.9:
        url += f"&channel_id={draw.randrange(1 << 30)}"
    return Bid(
        auction=FIRST_ID + auction,
        bidder=_recent(people, draw),
        price=_price(draw),
        channel=channel,
        url=url,
        time_ms=time_ms,
        extra="".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=20)),
    )


def _recent(people: int, draw: random.Random) -> int:
    return FIRST_ID + draw.randrange(max(0, people - 1000), people)


def _price(draw: random.Random) -> int:
    return round(10 ** (draw.random() * 6) * 100)
