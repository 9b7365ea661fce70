"""Nexmark's world: an online auction house. People register, open auctions, and bid in them.

Times are milliseconds since the epoch. Every event has a time of its own, so that "the last" and "the first"
have one answer.
"""

from __future__ import annotations

import msgspec


class Person(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str
    city: str
    state: str
    time_ms: int


class Auction(msgspec.Struct, frozen=True, gc=False):
    id: int
    item: str
    initial_bid: int
    reserve: int
    expires_ms: int
    seller: int
    category: int
    time_ms: int


class Bid(msgspec.Struct, frozen=True, gc=False):
    auction: int
    bidder: int
    price: int
    channel: str
    url: str
    time_ms: int
    extra: str


Event = Person | Auction | Bid
