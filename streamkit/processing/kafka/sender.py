"""`await topic.send(...)`: single records from any coroutine, each awaited until it is acknowledged.

A producer apart from the sink's: its records belong to no commit, and each needs a report of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client

from streamkit.errors import StreamkitError
from streamkit.processing.kafka.settings import KafkaSettings, producer_settings
from streamkit.processing.record import Headers

POLL_S = 0.001
LINGER_MS = 1

log = logging.getLogger("worker.sender")


class KafkaSender:
    """The `Producer` of an app. Made on the running loop; the connection opens with the first record."""

    def __init__(self, bootstrap: str, user: KafkaSettings) -> None:
        self._conf = {
            "linger.ms": LINGER_MS,
            **producer_settings(bootstrap, user),
            "delivery.report.only.error": False,
        }
        self._client: Client | None = None
        self._polling: asyncio.Task[None] | None = None

    async def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        *,
        headers: Headers | None,
        timestamp_ms: int | None,
        partition: int | None,
    ) -> None:
        """Produce one record and return when it is acknowledged. Raises StreamkitError if it cannot be."""
        if self._client is None:
            self._client = Client(self._conf, logger=log)
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = -1 if partition is None else partition
        time = 0 if timestamp_ms is None else timestamp_ms or 1  # librdkafka takes 0 for "now"
        report = partial(_settle, acknowledged)
        produce: Callable[..., None] = self._client.produce
        while True:
            try:
                produce(topic, value, key, place, report, None, time, headers)
            except BufferError:
                await asyncio.sleep(POLL_S)
            except KafkaException as error:
                raise _undelivered(topic, error.args[0]) from None
            else:
                break
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(self._client), name="sender-poll")
        await acknowledged

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._polling is not None:
            await self._polling

    async def _poll(self, client: Client) -> None:
        while len(client):
            client.poll(0)
            await asyncio.sleep(POLL_S)


def _settle(acknowledged: asyncio.Future[None], error: KafkaError | None, message: Message) -> None:
    if acknowledged.done():  # its waiter was cancelled
        return
    if error is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(_undelivered(message.topic() or "", error))


def _undelivered(topic: str, error: KafkaError) -> StreamkitError:
    return StreamkitError(
        f"a record for {topic} was not delivered: {error.str()}", hint=f"streamkit topic describe {topic}"
    )
