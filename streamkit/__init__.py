"""Stream processing in Python on its own log, which speaks the Apache Kafka wire protocol.

    import streamkit as sk

The names below are loaded when they are first used, so that `import streamkit` stays cheap for the broker and
the command line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit.processing.agent import Agent as Agent
    from streamkit.processing.agent import AgentError as AgentError
    from streamkit.processing.aggregations import Aggregate as Aggregate
    from streamkit.processing.aggregations import ApproxCountDistinct as ApproxCountDistinct
    from streamkit.processing.aggregations import Collect as Collect
    from streamkit.processing.aggregations import Count as Count
    from streamkit.processing.aggregations import CountDistinct as CountDistinct
    from streamkit.processing.aggregations import First as First
    from streamkit.processing.aggregations import Last as Last
    from streamkit.processing.aggregations import Max as Max
    from streamkit.processing.aggregations import Mean as Mean
    from streamkit.processing.aggregations import Min as Min
    from streamkit.processing.aggregations import Quantile as Quantile
    from streamkit.processing.aggregations import Reduce as Reduce
    from streamkit.processing.aggregations import Std as Std
    from streamkit.processing.aggregations import Sum as Sum
    from streamkit.processing.aggregations import TopN as TopN
    from streamkit.processing.aggregations import Var as Var
    from streamkit.processing.app import App as App
    from streamkit.processing.batch import batch as batch
    from streamkit.processing.connectors.file_sink import FileSink as FileSink
    from streamkit.processing.connectors.file_source import FileSource as FileSource
    from streamkit.processing.connectors.formats import Csv as Csv
    from streamkit.processing.connectors.formats import Ndjson as Ndjson
    from streamkit.processing.connectors.formats import Parquet as Parquet
    from streamkit.processing.connectors.http_source import HttpSource as HttpSource
    from streamkit.processing.connectors.postgres import PostgresSink as PostgresSink
    from streamkit.processing.connectors.sinks import BadRow as BadRow
    from streamkit.processing.connectors.sinks import Row as Row
    from streamkit.processing.connectors.sinks import Sink as Sink
    from streamkit.processing.connectors.sinks import Unavailable as Unavailable
    from streamkit.processing.connectors.sources import Portion as Portion
    from streamkit.processing.connectors.sources import Source as Source
    from streamkit.processing.connectors.sqlite import SqliteSink as SqliteSink
    from streamkit.processing.connectors.webhook import WebhookSource as WebhookSource
    from streamkit.processing.error_policy import DeadLetter as DeadLetter
    from streamkit.processing.error_policy import Fail as Fail
    from streamkit.processing.error_policy import Retry as Retry
    from streamkit.processing.error_policy import Skip as Skip
    from streamkit.processing.global_table import GlobalTable as GlobalTable
    from streamkit.processing.operators.tables import Change as Change
    from streamkit.processing.record import Record as Record
    from streamkit.processing.schemas import Avro as Avro
    from streamkit.processing.schemas import JsonSchema as JsonSchema
    from streamkit.processing.schemas import Protobuf as Protobuf
    from streamkit.processing.serde import Serde as Serde
    from streamkit.processing.state.processes import Context as Context
    from streamkit.processing.stream import Stream as Stream
    from streamkit.processing.table import Table as Table
    from streamkit.processing.table_stream import TableStream as TableStream
    from streamkit.processing.topic import Topic as Topic
    from streamkit.processing.windows import count_window as count_window
    from streamkit.processing.windows import every as every
    from streamkit.processing.windows import hopping as hopping
    from streamkit.processing.windows import session as session
    from streamkit.processing.windows import sliding as sliding
    from streamkit.processing.windows import tumbling as tumbling

__version__ = "0.1.0"

_HOMES = {
    "agent": ("Agent", "AgentError"),
    "aggregations": (
        "Aggregate",
        "ApproxCountDistinct",
        "Collect",
        "Count",
        "CountDistinct",
        "First",
        "Last",
        "Max",
        "Mean",
        "Min",
        "Quantile",
        "Reduce",
        "Std",
        "Sum",
        "TopN",
        "Var",
    ),
    "app": ("App",),
    "batch": ("batch",),
    "connectors.file_sink": ("FileSink",),
    "connectors.file_source": ("FileSource",),
    "connectors.formats": ("Csv", "Ndjson", "Parquet"),
    "connectors.http_source": ("HttpSource",),
    "connectors.postgres": ("PostgresSink",),
    "connectors.sinks": ("BadRow", "Row", "Sink", "Unavailable"),
    "connectors.sources": ("Portion", "Source"),
    "connectors.sqlite": ("SqliteSink",),
    "connectors.webhook": ("WebhookSource",),
    "error_policy": ("DeadLetter", "Fail", "Retry", "Skip"),
    "global_table": ("GlobalTable",),
    "operators.tables": ("Change",),
    "record": ("Record",),
    "schemas": ("Avro", "JsonSchema", "Protobuf"),
    "serde": ("Serde",),
    "state.processes": ("Context",),
    "stream": ("Stream",),
    "table": ("Table",),
    "table_stream": ("TableStream",),
    "topic": ("Topic",),
    "windows": ("count_window", "every", "hopping", "session", "sliding", "tumbling"),
}
_HOME_OF = {name: f"streamkit.processing.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'streamkit' has no attribute {name!r}{_meant(name)}")
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found


def public_names() -> tuple[str, ...]:
    """Every name of the framework, in the order of their homes."""
    return tuple(_HOME_OF)


def _meant(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name.lower(), {known.lower(): known for known in _HOME_OF}, n=1)
    return (
        f": did you mean {next(known for known in _HOME_OF if known.lower() == close[0])!r}?" if close else ""
    )


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]
