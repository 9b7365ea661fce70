"""Where each value comes from: the answer that DescribeConfigs gives about a resource.

A value's layers are kept as text by whoever altered them; this module lays them over each other, strongest
first, and names the layer that won (KIP-226). The layers below the winner are its synonyms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from streamkit.broker.broker_keys import BROKER_KEYS
from streamkit.broker.client_metrics_config import CLIENT_METRICS_KEYS
from streamkit.broker.config import DYNAMIC_KEYS, BrokerConfig
from streamkit.broker.config_key import ConfigType, Key
from streamkit.broker.group_config import GROUP_KEYS
from streamkit.broker.topic_config import TOPIC_KEYS


class ConfigSource(IntEnum):
    """Kafka's numbers for the layer that a value comes from."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


@dataclass(frozen=True, kw_only=True)
class ConfigSynonym:
    """One layer's say about a value, under the name that the layer uses for it."""

    name: str
    value: str
    source: ConfigSource


@dataclass(frozen=True, kw_only=True)
class ConfigEntry:
    """One key as it stands: the value in force, its source, and every layer that speaks, the winner first."""

    name: str
    value: str
    type: ConfigType
    doc: str
    read_only: bool
    source: ConfigSource
    synonyms: tuple[ConfigSynonym, ...]


@dataclass(frozen=True, kw_only=True)
class BrokerLayers:
    """What was altered at run time: for this broker, and for all of them."""

    this_broker: Mapping[str, str] = field(default_factory=dict)
    all_brokers: Mapping[str, str] = field(default_factory=dict)


def describe_topic(
    config: BrokerConfig, layers: BrokerLayers, overrides: Mapping[str, str]
) -> Iterator[ConfigEntry]:
    """Every key of a topic with these overrides on a broker that was started with `config`."""
    for key in TOPIC_KEYS.values():
        own = (
            [_synonym(key, key.name, overrides[key.name], 1, ConfigSource.TOPIC)]
            if key.name in overrides
            else []
        )
        yield _entry(key, key.name, [*own, *_broker_synonyms(key, config, layers)], read_only=False)


def describe_group(config: BrokerConfig, overrides: Mapping[str, str]) -> Iterator[ConfigEntry]:
    """Every key of a consumer group with these overrides."""
    for key in GROUP_KEYS.values():
        own = (
            [_synonym(key, key.name, overrides[key.name], 1, ConfigSource.GROUP)]
            if key.name in overrides
            else []
        )
        yield _entry(key, key.name, [*own, *_broker_synonyms(key, config, BrokerLayers())], read_only=False)


def describe_client_metrics(texts: Mapping[str, str]) -> Iterator[ConfigEntry]:
    """Every key of a subscription of clients' metrics; no broker has a say, so defaults have no synonym."""
    for key in CLIENT_METRICS_KEYS.values():
        if key.name in texts:
            own = _synonym(key, key.name, texts[key.name], 1, ConfigSource.CLIENT_METRICS)
            yield _entry(key, key.name, [own], read_only=False)
        else:
            yield ConfigEntry(
                name=key.name,
                value=key.render(key.default),
                type=key.type,
                doc=key.doc,
                read_only=False,
                source=ConfigSource.DEFAULT,
                synonyms=(),
            )


def describe_broker(config: BrokerConfig, layers: BrokerLayers) -> Iterator[ConfigEntry]:
    """Every key of the broker that was started with `config`; others' defaults under the broker's names."""
    for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values()):
        if not key.spellings:
            continue  # a topic's own affair
        name = key.name if key.name in BROKER_KEYS else key.default_name
        yield _entry(key, name, _broker_synonyms(key, config, layers), read_only=name not in DYNAMIC_KEYS)


def describe_all_brokers(layers: BrokerLayers) -> Iterator[ConfigEntry]:
    """The keys altered for all brokers: what the broker resource with an empty name answers."""
    for name, text in layers.all_brokers.items():
        key = DYNAMIC_KEYS[name]
        unit = next(spelling.unit for spelling in key.spellings if spelling.name == name)
        synonym = _synonym(key, name, text, unit, ConfigSource.DYNAMIC_DEFAULT_BROKER)
        yield _entry(key, name, [synonym], read_only=False)


def _broker_synonyms(key: Key, config: BrokerConfig, layers: BrokerLayers) -> list[ConfigSynonym]:
    sources = (
        (layers.this_broker, ConfigSource.DYNAMIC_BROKER),
        (layers.all_brokers, ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (config.given, ConfigSource.STATIC_BROKER),
    )
    found = [
        _synonym(key, spelling.name, texts[spelling.name], spelling.unit, source)
        for texts, source in sources
        for spelling in key.spellings
        if spelling.name in texts
    ]
    default = key.render(key.default)
    return [*found, ConfigSynonym(name=key.default_name, value=default, source=ConfigSource.DEFAULT)]


def _synonym(key: Key, name: str, text: str, unit: int, source: ConfigSource) -> ConfigSynonym:
    """A layer's text in the key's own units, so that 168 hours and 604800000 milliseconds read the same."""
    return ConfigSynonym(name=name, value=key.render(key.parse(text, unit)), source=source)


def _entry(key: Key, name: str, synonyms: Iterable[ConfigSynonym], *, read_only: bool) -> ConfigEntry:
    ranked = tuple(synonyms)
    return ConfigEntry(
        name=name,
        value=ranked[0].value,
        type=key.type,
        doc=key.doc,
        read_only=read_only,
        source=ranked[0].source,
        synonyms=ranked,
    )
