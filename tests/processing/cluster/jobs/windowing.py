"""Joins two topics and cuts one of them into sessions: what kills are tried on.

With fewer partitions than the left one, the right one is moved.
"""

import os

import streamkit as sk

NAME = os.environ["JOB"]
KAFKA = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}

app = sk.App(NAME, commit_interval="200ms", kafka=KAFKA)
left = app.topic(f"{NAME}-left", key=str, partitions=2)
right = app.topic(f"{NAME}-right", key=str, partitions=int(os.environ["RIGHT"]))
lefts, rights = (app.stream(topic, time=lambda v: v["ts"]) for topic in (left, right))
pairs = lefts.join(rights, lambda a, b: [a and a["n"], b and b["n"]], within="10s", how="outer", name="pairs")
pairs.to(app.topic(f"{NAME}-pairs", key=str, partitions=1))
sessions = lefts.window(sk.session("5s")).aggregate(
    ns=sk.Collect("n"), most=sk.TopN("n", n=2), name="sessions"
)
sessions.to(app.topic(f"{NAME}-sessions", key=str, partitions=1))
