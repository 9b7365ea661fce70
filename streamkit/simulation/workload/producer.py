"""An idempotent producer: one batch for a partition at a time, or a few that do not wait for each other, sent
until they are acknowledged or given up.

Whoever gives a batch up does not know what became of it, so the next one comes under a new producer id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from streamkit.net.peer import PeerError, PeerUnreachableError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from streamkit.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.simulation.workload.client import REQUEST_TIMEOUT_MS, Client
from streamkit.simulation.workload.history import History, Outcome, Send

PRODUCE_VERSION = 9
INIT_PRODUCER_ID_VERSION = 3
GIVE_UP_S = 12.0
PADDING_BYTES = 150
NOT_APPENDED = (
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.LEADER_NOT_AVAILABLE,
)
"""Refusals that come before anything is written."""
TRY_AGAIN = (
    *NOT_APPENDED,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.NETWORK_EXCEPTION,
)


class Flying:
    """A batch that is on its way."""

    def __init__(self, send: Send, request: ProduceRequest) -> None:
        self.send = send
        self.request = request
        self.is_settled = False
        self.may_be_appended = False


def no_key(value: str) -> bytes:
    return b""


class Producer:
    def __init__(
        self,
        client: Client,
        topic: str,
        history: History,
        sends: list[Send],
        key_of: Callable[[str], bytes] = no_key,
    ) -> None:
        """`sends` is where what it sends is written down."""
        self._client = client
        self._topic = topic
        self._history = history
        self._sends = sends
        self._key_of = key_of
        self._id = -1
        self._epoch = -1
        self._incarnation = 0
        self._sequences: dict[int, int] = {}

    async def send(self, partition: int, values: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        if not await self._is_somebody(give_up_s):
            return
        send = self._begun(partition, values)
        await self._until_settled(send, give_up_s)
        send.ended_s = loop.time()
        if send.outcome is Outcome.OK:
            self._sequences[partition] = self._sequences.get(partition, 0) + len(values)
        else:
            self._id = -1

    async def send_together(self, partition: int, batches: Sequence[tuple[str, ...]]) -> None:
        """At most five, each on its way before the one ahead of it is acknowledged.

        What is not acknowledged is sent again with all that follows it, in order.
        """
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        if not await self._is_somebody(give_up_s):
            return
        flying = []
        for values in batches:
            send = self._begun(partition, values)
            flying.append(Flying(send, self._request(send)))
            self._sequences[partition] = self._sequences.get(partition, 0) + len(values)
        while loop.time() < give_up_s and (left := [one for one in flying if not one.is_settled]):
            leader = await self._client.leader(self._topic, partition)
            if leader is not None:
                answers = await asyncio.gather(
                    *(self._client.ask(leader[0], one.request, PRODUCE_VERSION) for one in left),
                    return_exceptions=True,
                )
                self._take_answers(left, answers)
            if not flying[-1].is_settled:
                self._client.mistrust(self._topic, partition)
                await self._client.back_off()
        for one in flying:
            one.send.ended_s = loop.time()
            if not (one.is_settled or one.may_be_appended):
                one.send.outcome = Outcome.FAILED
        if any(one.send.outcome is not Outcome.OK for one in flying):
            self._id = -1

    def _take_answers(self, left: list[Flying], answers: list[Any]) -> None:
        is_complete = True
        for one, response in zip(left, answers, strict=True):
            if isinstance(response, BaseException):
                if not isinstance(response, PeerError):
                    raise response
                one.may_be_appended |= not isinstance(response, PeerUnreachableError)
                is_complete = False
                continue
            answer = response.responses[0].partition_responses[0]
            if answer.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and not is_complete:
                continue  # one ahead of it is missing
            one.is_settled = self._is_settled(one.send, answer)
            one.may_be_appended |= not one.is_settled and answer.error_code not in NOT_APPENDED
            is_complete &= one.is_settled

    def _begun(self, partition: int, values: tuple[str, ...]) -> Send:
        send = Send(
            producer=f"{self._client.name}/{self._id}", partition=partition, values=values,
            began_s=asyncio.get_running_loop().time(),
        )  # fmt: skip
        self._sends.append(send)
        return send

    async def _is_somebody(self, give_up_s: float) -> bool:
        """Whether it has a producer id, which it gets if it has none."""
        while self._id < 0:
            if not await self._become_somebody():
                await self._client.back_off()
            if asyncio.get_running_loop().time() > give_up_s:
                return False
        return True

    async def send_hastily(self, partition: int, values: tuple[str, ...]) -> None:
        """Once, with acks=1 and without a sequence: nothing is promised of it, and it may be anywhere."""
        leader = await self._client.leader(self._topic, partition)
        if leader is None:
            return
        send = Send(
            producer=f"{self._client.name}/hasty", partition=partition, values=values,
            began_s=asyncio.get_running_loop().time(),
        )  # fmt: skip
        self._sends.append(send)
        request = produce_request(self._topic, send, self._key_of, acks=1)
        try:
            await self._client.ask(leader[0], request, PRODUCE_VERSION)
        except PeerError:
            self._client.mistrust(self._topic, partition)

    async def _until_settled(self, send: Send, give_up_s: float) -> None:
        loop = asyncio.get_running_loop()
        request = self._request(send)
        maybe_appended = False
        while loop.time() < give_up_s:
            leader = await self._client.leader(self._topic, send.partition)
            if leader is not None:
                try:
                    response = await self._client.ask(leader[0], request, PRODUCE_VERSION)
                except PeerError as error:
                    maybe_appended |= not isinstance(error, PeerUnreachableError)
                else:
                    answer = response.responses[0].partition_responses[0]
                    if self._is_settled(send, answer):
                        return
                    maybe_appended |= answer.error_code not in NOT_APPENDED
                self._client.mistrust(self._topic, send.partition)
            await self._client.back_off()
        if not maybe_appended:
            send.outcome = Outcome.FAILED

    def _request(self, send: Send) -> ProduceRequest:
        return produce_request(
            self._topic, send, self._key_of, acks=-1, producer_id=self._id, producer_epoch=self._epoch,
            base_sequence=self._sequences.get(send.partition, 0),
        )  # fmt: skip

    def _is_settled(self, send: Send, answer: PartitionProduceResponse) -> bool:
        code = answer.error_code
        if code == ErrorCode.NONE:
            send.outcome, send.base_offset = Outcome.OK, answer.base_offset
        elif code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            send.outcome = Outcome.OK
        elif code not in TRY_AGAIN:
            name = ErrorCode(code).name  # type: ignore[call-arg]  # looked up by value
            self._history.surprises.append(
                f"{send.producer} was refused by partition {send.partition}: {name} {answer.error_message}"
            )
        else:
            return False
        return True

    async def _become_somebody(self) -> bool:
        """Get a producer id."""
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=-1)
        try:
            response: InitProducerIdResponse = await self._client.ask_anybody(
                request, INIT_PRODUCER_ID_VERSION
            )
        except PeerError:
            return False
        if response.error_code == ErrorCode.NONE:
            self._id, self._epoch = response.producer_id, response.producer_epoch
            self._sequences.clear()
        return response.error_code == ErrorCode.NONE


def produce_request(
    topic: str,
    send: Send,
    key_of: Callable[[str], bytes],
    *,
    acks: int,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> ProduceRequest:
    batch = encode_batch(
        [
            Record(timestamp=0, key=key_of(value), value=value.encode().ljust(PADDING_BYTES))
            for value in send.values
        ],
        producer_id=producer_id, producer_epoch=producer_epoch, base_sequence=base_sequence,
    )  # fmt: skip
    data = PartitionProduceData(index=send.partition, records=batch)
    return ProduceRequest(
        acks=acks,
        timeout_ms=REQUEST_TIMEOUT_MS,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )
