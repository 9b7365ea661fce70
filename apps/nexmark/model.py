"""Nexmark's world: an online auction house. People register, open auctions, and bid in them.

Times are milliseconds since the epoch. Every event has a time of its own, so that "the last" and "the first"
have one answer.
"""

from __future__ import annotations

import msgspec


class Person(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str
    email_address: str
    credit_card: str
    city: str
    state: str
    time_ms: int
    extra: str


class Auction(msgspec.Struct, frozen=True, gc=False):
    id: int
    item_name: str
    description: str
    initial_bid: int
    reserve: int
    time_ms: int
    expires_ms: int
    seller: int
    category: int
    extra: str


class Bid(msgspec.Struct, frozen=True, gc=False):
    auction: int
    bidder: int
    price: int
    channel: str
    url: str
    time_ms: int
    extra: str


Event = Person | Auction | Bid
