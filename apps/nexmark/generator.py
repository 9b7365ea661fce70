"""Nexmark's events: of 50, one person, three auctions, and 46 bids; always the same ones for a seed.

Some are hot: half of the bids go to one auction of the last hundred, three quarters of them come from one
person of the last hundred, and so do three quarters of the auctions. Prices are spread over several powers of
ten.
"""

from __future__ import annotations

import random
import string
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
ACTIVE = 1000
"""People who do something at a time."""
HOT_EVERY = 100
HOT_AUCTIONS = 0.5
HOT_PEOPLE = 0.75
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
            yield _person(people, time_ms, draw)
            people += 1
        elif rest <= AUCTIONS_OF:
            yield _auction(auctions, people, time_ms, draw)
            auctions += 1
        else:
            yield _bid(auctions, people, time_ms, draw)


def _person(number: int, time_ms: int, draw: random.Random) -> Person:
    first, last = draw.choice(FIRST_NAMES), draw.choice(LAST_NAMES)
    return Person(
        id=FIRST_ID + number,
        name=f"{first} {last}",
        email_address=f"{first}.{last}.{number}@example.com".lower(),
        credit_card=f"{draw.randrange(10**16):016}",
        city=draw.choice(CITIES),
        state=draw.choice(STATES),
        time_ms=time_ms,
        extra=_text(40, draw),
    )


def _auction(number: int, people: int, time_ms: int, draw: random.Random) -> Auction:
    initial = _price(draw)
    return Auction(
        id=FIRST_ID + number,
        item_name=f"item {draw.randrange(10_000)}",
        description=_text(80, draw),
        initial_bid=initial,
        reserve=initial + _price(draw),
        time_ms=time_ms,
        expires_ms=time_ms + draw.randint(500, 5_000),
        seller=_somebody(people, draw, hot=0),
        category=FIRST_CATEGORY + draw.randrange(CATEGORIES),
        extra=_text(200, draw),
    )


def _bid(auctions: int, people: int, time_ms: int, draw: random.Random) -> Bid:
    channel = draw.choice(CHANNELS) if draw.random() < 0.5 else f"channel-{draw.randrange(1000)}"
    path = "/".join(draw.choice("abcdefgh") * 3 for _ in range(3))
    url = f"https://www.nexmark.com/{path}/item.htm?query=1"
    if channel.startswith("channel-") and draw.random() < 0.9:
        url += f"&channel_id={draw.randrange(1 << 30)}"
    return Bid(
        auction=_open_auction(auctions, draw),
        bidder=_somebody(people, draw, hot=1),
        price=_price(draw),
        channel=channel,
        url=url,
        time_ms=time_ms,
        extra=_text(20, draw),
    )


def _open_auction(auctions: int, draw: random.Random) -> int:
    oldest = max(0, auctions - IN_FLIGHT)
    if draw.random() < HOT_AUCTIONS:
        return FIRST_ID + max(_hot(auctions), oldest)
    return FIRST_ID + draw.randrange(oldest, auctions)


def _somebody(people: int, draw: random.Random, *, hot: int) -> int:
    """An active person; the hot ones of the sellers are not those of the bidders."""
    if draw.random() < HOT_PEOPLE:
        return FIRST_ID + min(_hot(people) + hot, people - 1)
    return FIRST_ID + draw.randrange(max(0, people - ACTIVE), people)


def _hot(count: int) -> int:
    return (count - 1) // HOT_EVERY * HOT_EVERY


def _price(draw: random.Random) -> int:
    return round(10 ** (draw.random() * 6) * 100)


LETTERS = "".join(random.Random(0).choices(string.ascii_lowercase, k=10_000))


def _text(length: int, draw: random.Random) -> str:
    start = draw.randrange(len(LETTERS) - length)
    return LETTERS[start : start + length]
