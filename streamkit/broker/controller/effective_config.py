"""What the configuration of a broker or topic comes to once every layer is laid over the next."""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.topic_config import TopicConfig


def topic_config(image: MetadataImage, config: BrokerConfig, topic: str) -> TopicConfig:
    """The values in force for `topic` on the node that was started with `config`."""
    return broker_config(image, config).topic_defaults.altered(image.topic_overrides(topic))


def broker_config(image: MetadataImage, config: BrokerConfig) -> BrokerConfig:
    """The values in force on the node that was started with `config`."""
    layers = image.broker_layers(config.node_id)
    return config.altered(layers.all_brokers).altered(layers.this_broker)
