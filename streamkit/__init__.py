"""Stream processing in Python on its own log, which speaks the Apache Kafka wire protocol."""

__version__ = "0.1.0"
