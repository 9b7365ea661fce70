"""The clients that play the book: those of every day, and those that need another language's tools."""

from __future__ import annotations

from tests.compatibility.clients.aio_kafka import AioKafka
from tests.compatibility.clients.confluent import Confluent
from tests.compatibility.clients.foreign import FOREIGN
from tests.compatibility.clients.kafka_python import KafkaPython
from tests.compatibility.clients.kcat import Kcat

EVERYDAY = (Confluent, AioKafka, KafkaPython, Kcat)
CLIENTS = (*EVERYDAY, *FOREIGN)
