"""What Nexmark's queries answer, by SQL: nothing of the engine is known here.

`bid` (auction, bidder, price, channel, url, time_ms, extra), `auction`, `person`, `side` are tables of one
SQLite database in memory. Each statement gives the rows that the query's topic is to hold in the end, in any
order. Where a query corrects itself, the last row of each key counts.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from apps.nexmark.model import Event

RANKS = """
    SUM(price < 10000), SUM(price >= 10000 AND price < 1000000), SUM(price >= 1000000)
"""
PEOPLE = ", ".join(
    f"COUNT(DISTINCT CASE WHEN {rank} THEN {field} END)"
    for rank in ("1", "price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000")
    for field in ("bidder", "auction")
)
WINNING = """
    SELECT a.id, a.category, b.bidder, b.price, b.time_ms,
           ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.time_ms) AS place
    FROM auction a JOIN bid b ON b.auction = a.id AND b.time_ms >= a.time_ms AND b.time_ms < a.expires_ms
"""
SQL = {
    "q0": "SELECT auction, bidder, price, time_ms FROM bid",
    "q1": "SELECT auction, price * 0.908, time_ms FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q3": """SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON p.id = a.seller
             WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')""",
    "q4": f"SELECT category, AVG(price), COUNT(*) FROM ({WINNING}) WHERE place = 1 GROUP BY category",
    "q5": """WITH step(n) AS (VALUES (0), (1), (2), (3), (4)),
             counted AS (SELECT auction, (time_ms / 2000 - n) * 2000 + 10000 AS end_ms, COUNT(*) AS n
                         FROM bid, step GROUP BY 1, 2)
             SELECT auction, n, end_ms FROM (SELECT *, MAX(n) OVER (PARTITION BY end_ms) AS most FROM counted)
             WHERE n = most""",
    "q7": """SELECT auction, bidder, price, time_ms
             FROM (SELECT *, MAX(price) OVER (PARTITION BY time_ms / 10000) AS most FROM bid)
             WHERE price = most""",
    "q8": """SELECT DISTINCT p.id, p.name, p.time_ms / 10000 * 10000 FROM person p
             JOIN auction a ON a.seller = p.id AND a.time_ms / 10000 = p.time_ms / 10000""",
    "q9": f"SELECT id, category, bidder, price, time_ms FROM ({WINNING}) WHERE place = 1",
    "q11": """WITH apart AS (SELECT bidder, time_ms, time_ms - LAG(time_ms) OVER one > 10000 AS is_new
                             FROM bid WINDOW one AS (PARTITION BY bidder ORDER BY time_ms)),
              numbered AS (SELECT bidder, time_ms, SUM(COALESCE(is_new, 1))
                           OVER (PARTITION BY bidder ORDER BY time_ms) AS session FROM apart)
              SELECT bidder, COUNT(*), MIN(time_ms) FROM numbered GROUP BY bidder, session""",
    "q12": """SELECT bidder, COUNT(*), time_ms / 10000 * 10000 FROM bid
              GROUP BY bidder, time_ms / 10000""",
    "q13": "SELECT auction, time_ms, value FROM bid JOIN side ON side.key = bid.auction % 100",
    "q14": """SELECT auction, 0.908 * price,
              CASE WHEN time_ms / 3600000 % 24 BETWEEN 8 AND 18 THEN 'day'
                   WHEN time_ms / 3600000 % 24 <= 6 OR time_ms / 3600000 % 24 >= 20 THEN 'night'
                   ELSE 'other' END,
              LENGTH(extra) - LENGTH(REPLACE(extra, 'c', ''))
              FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000""",
    "q15": f"SELECT 'all', COUNT(*), {RANKS}, {PEOPLE} FROM bid GROUP BY time_ms / 86400000",
    "q16": f"SELECT channel, COUNT(*), {RANKS}, {PEOPLE} FROM bid GROUP BY channel, time_ms / 86400000",
    "q17": f"""SELECT auction, COUNT(*), {RANKS}, MIN(price), MAX(price), AVG(price), SUM(price)
               FROM bid GROUP BY auction, time_ms / 86400000""",
    "q18": """SELECT auction, bidder, price, time_ms FROM
              (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY time_ms DESC) AS place
               FROM bid) WHERE place = 1""",
    "q19": """SELECT auction, price, time_ms FROM
              (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, time_ms) AS place
               FROM bid) WHERE place <= 10""",
    "q20": """SELECT bid.auction, bid.price, bid.time_ms, item, category FROM bid
              JOIN auction ON auction.id = bid.auction WHERE category = 10""",
    "q21": """SELECT time_ms, channel, CHANNEL_ID(channel, url) FROM bid
              WHERE CHANNEL_ID(channel, url) IS NOT NULL""",
    "q22": "SELECT time_ms, PART(url, 3), PART(url, 4), PART(url, 5) FROM bid",
}


def rows_of(query: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """What the query's topic holds, as rows in the columns of its SQL."""
    rows: Iterable[Any] = values
    if query == "q0":
        rows = [_bid(v) for v in values]
    elif query == "q18":
        rows = {(v["bidder"], v["auction"]): _bid(v) for v in values}.values()
    elif query == "q4":
        rows = {v["category"]: tuple(v.values()) for v in values}.values()
    elif query == "q19":
        best = {v["auction"]: v["best"] for v in values}
        rows = [(auction, *row) for auction, found in best.items() for row in found]
    else:
        rows = [tuple(v.values()) for v in values]
    return sorted(_rounded(row) for row in rows)


def _bid(value: dict[str, Any]) -> tuple[Any, ...]:
    return value["auction"], value["bidder"], value["price"], value["time_ms"]


def answers(events: Iterable[Event], side: dict[int, str]) -> sqlite3.Connection:
    """A database with these events in it."""
    database = sqlite3.connect(":memory:")
    database.create_function("PART", 2, lambda text, number: text.split("/")[number], deterministic=True)
    database.create_function("CHANNEL_ID", 2, _channel_id, deterministic=True)
    database.execute("CREATE TABLE side (key, value)")
    database.executemany("INSERT INTO side VALUES (?, ?)", side.items())
    tables: dict[str, list[tuple[Any, ...]]] = {"Person": [], "Auction": [], "Bid": []}
    columns: dict[str, tuple[str, ...]] = {}
    for event in events:
        name = type(event).__name__
        columns[name] = event.__struct_fields__
        tables[name].append(msgspec.structs.astuple(event))
    for name, rows in tables.items():
        database.execute(f"CREATE TABLE {name} ({', '.join(columns[name])})")
        database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns[name]))})", rows)
    database.execute("CREATE INDEX bid_by_auction ON Bid (auction)")
    database.execute("CREATE INDEX auction_by_seller ON Auction (seller)")
    return database


def answer(database: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """The right rows of a query."""
    return sorted(_rounded(row) for row in database.execute(SQL[query]))


def _channel_id(channel: str, url: str) -> str | None:
    named = {"apple": "0", "google": "1", "facebook": "2", "baidu": "3"}.get(channel.lower())
    found = re.search("(?:&|^)channel_id=([^&]*)", url)
    return named or (found[1] if found else None)


def _rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(round(value, 3) if isinstance(value, float) else value for value in row)
