"""The page `docs/configuration.md`, written from the table of keys.

python -m streamkit.broker.config_docs > docs/configuration.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from streamkit.broker.broker_keys import BROKER_KEYS
from streamkit.broker.client_metrics_config import CLIENT_METRICS_KEYS
from streamkit.broker.config_key import DOUBLE_MAX, HOUR_MS, INT_MAX, LONG_MAX, MINUTE_MS, Key, Spelling
from streamkit.broker.group_config import GROUP_KEYS
from streamkit.broker.topic_config import TOPIC_KEYS

_INTRODUCTION = """\
# Configuration

<!-- Written by `python -m streamkit.broker.config_docs > docs/configuration.md`; do not edit. -->

Names, defaults and meanings are Apache Kafka's; ours begin with `streamkit.`. A broker takes its keys from
`--config FILE` (the syntax of Kafka's `server.properties`) and from `--set KEY=VALUE`, which wins. An unknown
key is an error. `DescribeConfigs` answers with the same table.

A topic key is set when a topic is created or altered; the broker key beside it sets the default for topics
that do not, and can itself be altered while the broker runs. A key of a group is set by altering the
configuration of the GROUP, which need not exist yet. Other broker keys are read at start, unless they say
that they can be altered.
"""
_UNITS = {MINUTE_MS: "in minutes", HOUR_MS: "in hours"}
_BROKER_COLUMNS = "| key | type | default | valid values | meaning |\n|---|---|---|---|---|"
_CLIENT_METRICS = """\
A subscription of clients' metrics (KIP-714) is the configuration of a CLIENT_METRICS resource with a name of
your choice, for example by `kafka-client-metrics.sh` or `kafka-configs.sh --entity-type client-metrics`.
"""
_TOPIC_COLUMNS = (
    "| key | broker's default for it | type | default | valid values | meaning |\n|---|---|---|---|---|---|"
)


def page() -> str:
    """The whole page, as Markdown."""
    topics = ["## Topics", "", _TOPIC_COLUMNS, *_topic_rows(), ""]
    groups = ["## Consumer groups", "", _TOPIC_COLUMNS, *_group_rows(), ""]
    brokers = ["## Brokers", "", _BROKER_COLUMNS, *_broker_rows(), ""]
    client_metrics = ["## Client metrics", "", _CLIENT_METRICS, _BROKER_COLUMNS, *_client_metrics_rows(), ""]
    return "\n".join([_INTRODUCTION, *topics, *groups, *client_metrics, *brokers])


def _topic_rows() -> Iterator[str]:
    for key in TOPIC_KEYS.values():
        yield _row(f"`{key.name}`", _spelled(key.spellings), *_value_cells(key), key.doc)


def _group_rows() -> Iterator[str]:
    for key in GROUP_KEYS.values():
        yield _row(f"`{key.name}`", _spelled(key.spellings), *_value_cells(key), key.doc)


def _client_metrics_rows() -> Iterator[str]:
    for key in CLIENT_METRICS_KEYS.values():
        yield _row(f"`{key.name}`", *_value_cells(key), key.doc)


def _broker_rows() -> Iterator[str]:
    for key in BROKER_KEYS.values():
        altered = " Can be altered while the broker runs." if key.dynamic else ""
        yield _row(_spelled(key.spellings), *_value_cells(key), key.doc + altered)


def _value_cells(key: Key) -> tuple[str, str, str]:
    return key.type.name.lower(), _default(key), f"`{key.valid_values}`" if key.valid_values else ""


def _default(key: Key) -> str:
    if key.default in (INT_MAX, LONG_MAX, DOUBLE_MAX) and not isinstance(key.default, bool):
        return "no limit"
    text = key.render(key.default)
    return f"`{text}`" if text else "empty"


def _spelled(spellings: Iterable[Spelling]) -> str:
    return ", ".join(f"`{one.name}`{' ' + _UNITS[one.unit] if one.unit > 1 else ''}" for one in spellings)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
