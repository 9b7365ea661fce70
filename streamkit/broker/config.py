"""What one broker does: every key of it, its topics' and its groups', from properties to typed values.

The tables are `broker_keys`, `topic_config` and `group_config`; this is their sum. Values come in layers, the
strongest first: the topic's own, this broker's altered at run time, all brokers' altered at run time, the
properties given at start, Kafka's default. A `BrokerConfig` is the sum of the broker's layers; `given` keeps
the properties it was made from as text, for DescribeConfigs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from streamkit.broker.broker_keys import BROKER_KEYS, BrokerKeys
from streamkit.broker.config_key import InvalidValueError, Key, Value, nearest
from streamkit.broker.group_config import GROUP_KEYS, GroupConfig
from streamkit.broker.listeners import WILDCARD_HOSTS, Listener, parse_listeners
from streamkit.broker.quorum_config import VOTERS_KEY, QuorumVoter, parse_voters
from streamkit.broker.topic_config import TOPIC_KEYS, TopicConfig
from streamkit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class BrokerConfig(BrokerKeys):
    """Made by `from_properties`, changed by making another."""

    topic_defaults: TopicConfig = field(default_factory=TopicConfig)
    group_defaults: GroupConfig = field(default_factory=GroupConfig)
    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> BrokerConfig:
        """The configuration that these names and texts stand for; raises UsageError."""
        for name in properties:
            require_known(name)
        properties = {**_cluster_defaults(properties), **properties}
        try:
            config = cls(
                topic_defaults=TopicConfig(**_resolve(TOPIC_KEYS.values(), properties)),  # type: ignore[arg-type]
                group_defaults=GroupConfig(**_resolve(GROUP_KEYS.values(), properties)),  # type: ignore[arg-type]
                given=MappingProxyType(dict(properties)),
                **_resolve(BROKER_KEYS.values(), properties),  # type: ignore[arg-type]
            )
            config.group_defaults.check(config)
        except InvalidValueError as error:
            raise UsageError(str(error)) from None
        config.check()
        return config

    def altered(self, dynamic: Mapping[str, str]) -> BrokerConfig:
        """This configuration with what was altered at run time in front of it; raises UsageError."""
        if not dynamic:
            return self
        hidden = {spelling.name for name in dynamic for spelling in DYNAMIC_KEYS[name].spellings}
        kept = {name: text for name, text in self.given.items() if name not in hidden}
        return BrokerConfig.from_properties({**kept, **dynamic})

    def check(self) -> None:
        """Refuse what no single key can see: bounds that cross, listeners that nobody could reach."""
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms:
            raise UsageError("group.min.session.timeout.ms is above group.max.session.timeout.ms")
        if self.broker_heartbeat_interval_ms >= self.broker_session_timeout_ms:
            raise UsageError("broker.heartbeat.interval.ms is not below broker.session.timeout.ms")
        if "," in self.log_dir:
            raise UsageError(
                f"log.dirs names several directories: {self.log_dir}",
                hint="a streamkit broker has one; give log.dir a single path",
            )
        self.advertised_endpoints()
        self._check_voter()

    def _check_voter(self) -> None:
        """A voter must listen where the others are told to find it."""
        own = next((voter for voter in self.voters() if voter.node_id == self.node_id), None)
        if own is None:
            return
        controller = self.controller_endpoint()
        if controller is None:
            raise UsageError(
                f"{VOTERS_KEY} names this node, {own}, and it has no listener for the other controllers",
                hint=f"--controller-listen {own.host}:{own.port}",
            )
        if controller.port == 0:
            raise UsageError(
                f"{VOTERS_KEY} says that node {own.node_id} is found at port {own.port}, and {controller} "
                "takes any free one",
                hint=f"--controller-listen {own.host}:{own.port}",
            )

    def voters(self) -> tuple[QuorumVoter, ...]:
        """`controller.quorum.voters`, parsed; raises UsageError."""
        return parse_voters(self.controller_quorum_voters)

    def group_config(self, overrides: Mapping[str, str]) -> GroupConfig:
        """What a group with these overrides does at this broker; raises InvalidValueError, KeyError."""
        return self.group_defaults.altered(overrides).within(self)

    def endpoints(self) -> tuple[Listener, ...]:
        """`listeners`, parsed, those for controllers among them; raises UsageError."""
        return parse_listeners("listeners", self.listeners)

    def is_for_controllers(self, listener: str) -> bool:
        return listener in (name.upper() for name in self.controller_listener_names)

    def controller_endpoint(self) -> Listener | None:
        """Where other nodes reach this one as a controller; None if they do not."""
        return next((one for one in self.endpoints() if self.is_for_controllers(one.name)), None)

    def advertised_endpoints(self) -> tuple[Listener, ...]:
        """What to tell clients, one for each of their listeners, in these' order; raises UsageError."""
        listeners = [one for one in self.endpoints() if not self.is_for_controllers(one.name)]
        if not listeners:
            raise UsageError(
                "listeners has none for clients", hint="for example listeners=PLAINTEXT://127.0.0.1:9092"
            )
        given = {one.name: one for one in parse_listeners("advertised.listeners", self.advertised_listeners)}
        unknown = given.keys() - {listener.name for listener in listeners}
        if unknown:
            raise UsageError(f"advertised.listeners names {sorted(unknown)[0]}, which is not among listeners")
        advertised = tuple(given.get(listener.name, listener) for listener in listeners)
        for one in advertised:
            if one.host in WILDCARD_HOSTS:
                raise UsageError(
                    f"{one} is no address that a client could connect to",
                    hint=f"set advertised.listeners={one.name}://HOST:{one.port} (or --advertise HOST:PORT)",
                )
        return advertised


VOTERS_THAT_SURVIVE_ONE: Final = 3
# Every name that a broker's properties may use, with the key that it sets.
PROPERTY_NAMES: Final[Mapping[str, Key]] = {
    spelling.name: key
    for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values())
    for spelling in key.spellings
}
# What AlterConfigs may change on a running broker: the defaults of its topics, and the keys that say so.
DYNAMIC_KEYS: Final[Mapping[str, Key]] = {
    spelling.name: key
    for key in (*TOPIC_KEYS.values(), *(key for key in BROKER_KEYS.values() if key.dynamic))
    for spelling in key.spellings
}


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` words, as `--set` takes them, as properties; raises UsageError."""
    properties = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{assignment!r} is not KEY=VALUE", hint="for example --set num.partitions=3")
        require_known(name.strip())
        properties[name.strip()] = text.strip()
    return properties


def require_known(name: str) -> None:
    """Raise a UsageError that names the nearest key unless `name` is a broker property."""
    if name in PROPERTY_NAMES:
        return
    close = nearest(name, sorted(PROPERTY_NAMES))
    hint = f"did you mean {close}?" if close else "docs/configuration.md lists every key"
    raise UsageError(f"unknown configuration key {name}", hint=hint)


def _cluster_defaults(properties: Mapping[str, str]) -> dict[str, str]:
    """What is understood where three nodes or more are to be a cluster: any one of them may be lost."""
    voters = properties.get(VOTERS_KEY, "")
    if voters.count("@") < VOTERS_THAT_SURVIVE_ONE:
        return {}
    return {"default.replication.factor": "3", "min.insync.replicas": "2"}


def _resolve(keys: Iterable[Key], properties: Mapping[str, str]) -> dict[str, Value]:
    return dict(_given_values(keys, properties))


def _given_values(keys: Iterable[Key], properties: Mapping[str, str]) -> Iterator[tuple[str, Value]]:
    for key in keys:
        for spelling in key.spellings:
            if spelling.name in properties:
                yield key.attribute, key.parse(properties[spelling.name], spelling.unit)
                break
