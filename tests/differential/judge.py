"""Plays the corpus against both servers, collects the differences and counts what was asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.framing import decode_request
from streamkit.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest
from tests.differential import corpus  # noqa: F401  (enters every scenario)
from tests.differential.known_differences import KnownDifferences
from tests.differential.scenario import NEVER_VALID, SCENARIOS, Client, Exchange, Kind, Scenario
from tests.differential.trees import Labels, Tree, differing, note_sent, tree

KAFKA, OURS = 0, 1
WHO_ASKS = ApiVersionsRequest(client_software_name="differential", client_software_version="1")
COORDINATORS = 16
"""So many names reach every partition of the internal topics."""
MALFORMED_ANSWER_S = 3.0
HUGE_COUNT = b"\x7f\xff\xff\xff" * 8
HUGE_VARINT = b"\xff\xff\xff\xff\x07" * 8
UNSERVED_VERSION = "a_version_that_nobody_serves"
GARBAGE = b"\xde\xad\xbe\xef" * 4


@dataclass(frozen=True)
class Difference:
    """One field of one answer that is not the same."""

    api: str
    scenario: str
    version: int
    step: int
    kind: str
    path: str
    kafka: str
    ours: str

    def __str__(self) -> str:
        where = f"{self.api} v{self.version} {self.scenario} step {self.step} ({self.kind})"
        return f"{where}: {self.path}: Kafka {self.kafka}, streamkit {self.ours}"


@dataclass
class Counts:
    """Requests by API, version and kind, as they were sent to one of the servers."""

    requests: Counter[tuple[ApiKey, int, Kind]] = field(default_factory=Counter)
    same_bytes: int = 0
    sent: int = 0
    plays: int = 0

    def of(self, api: ApiKey, version: int, *kinds: Kind) -> int:
        return sum(self.requests[api, version, kind] for kind in kinds)


class Judge:
    """Two ports, and everything that was found out about what answers there.

    Of clusters these are the ports of one node, which leads and coordinates everything: the first replica.
    """

    def __init__(
        self, kafka_port: int, our_port: int, known: KnownDifferences, replicas: tuple[int, ...] = (1,)
    ) -> None:
        self._ports = (kafka_port, our_port)
        self._replicas = replicas
        self.known = known
        self.counts = Counts()
        self.differences: list[Difference] = []
        self.played: set[ApiKey] = set()
        self._bodies: dict[tuple[ApiKey, int], tuple[bytes, bytes]] = {}

    async def warm_up(self) -> None:
        """Both create their internal topics and load their coordinators before anybody counts topics."""
        clients = [Client(port, ApiKey.API_VERSIONS, 0, "warm-up") for port in self._ports]
        await asyncio.gather(*map(_warm_up, clients))

    async def advertised(self) -> tuple[set[int], set[int]]:
        """The keys of the APIs that Kafka serves to clients, and of those that we do."""
        clients = [Client(port, ApiKey.API_VERSIONS, 0, "advertised") for port in self._ports]
        kafka, ours = await asyncio.gather(*(client.quietly(WHO_ASKS) for client in clients))
        for client in clients:
            client.close()
        return {one.api_key for one in kafka.api_keys}, {one.api_key for one in ours.api_keys}

    async def judge(self, api: ApiKey) -> list[Difference]:
        """The differences of one API that nobody has listed, those of its malformed requests included."""
        unlisted: list[Difference] = []
        for one in SCENARIOS:
            if one.api == api:
                for version in range(one.first, one.last + 1):
                    unlisted += await self.play(one, version)
        for scenario in malformed_variants(api):
            for version in range(scenario.first, scenario.last + 1):
                unlisted += await self._play_malformed(scenario, version)
        self.played.add(api)
        return unlisted

    async def judge_newest(self, api: ApiKey, unplayed: Collection[str]) -> list[Difference]:
        """As `judge`, in the newest version of each scenario alone, for clusters.

        What differs is played once more: whether a copy came before an answer or after it is chance.
        """
        unlisted: list[Difference] = []
        for one in SCENARIOS:
            if one.api == api and one.name not in unplayed:
                phase = f"at-{self._replicas[0]}"
                if await self.play(one, one.last, phase):
                    unlisted += await self.play(one, one.last, f"{phase}-again")
        self.played.add(api)
        return unlisted

    async def play(self, scenario: Scenario, version: int, phase: str = "") -> list[Difference]:
        """The differences that nobody has listed; `phase` keeps the names of several plays apart."""
        title = f"{scenario.api.value}-{scenario.name.replace('_', '-')}-{version}{phase and f'-{phase}'}"
        clients = [Client(port, scenario.api, version, title, self._replicas) for port in self._ports]
        broken: list[BaseException | None] = []
        try:
            broken = await asyncio.gather(*map(scenario.play, clients), return_exceptions=True)
        finally:
            for client in clients:
                client.close()
        self.counts.plays += 1
        kafka, ours = (client.transcript for client in clients)
        self._keep_body(kafka, ours)
        unlisted = self._unlisted(list(self._compare(scenario.name, title, kafka, ours)))
        if not unlisted:  # else these say why it broke
            for error in broken:
                if error is not None:
                    raise AssertionError(f"{scenario.name} v{version} does not play") from error
        return unlisted

    def _keep_body(self, kafka: list[Exchange], ours: list[Exchange]) -> None:
        """The last valid request (wrong, where none is valid) is what malformed ones are made from."""
        for left, right in zip(kafka, ours, strict=False):
            key = left.api, left.version
            if left.kind is Kind.VALID or (left.kind is Kind.WRONG and left.api in NEVER_VALID):
                self._bodies[key] = _body(left), _body(right)

    async def _play_malformed(self, variant: Malformed, version: int) -> list[Difference]:
        bodies = self._bodies.get((variant.api, version))
        if bodies is None:
            return []
        clients = [Client(port, variant.api, version, variant.name) for port in self._ports]
        try:
            await asyncio.gather(
                *(
                    client.malformed(
                        variant.spoil(body, version), answer_s=MALFORMED_ANSWER_S, sent_as=variant.sent_as
                    )
                    for client, body in zip(clients, bodies, strict=True)
                )
            )
        finally:
            for client in clients:
                client.close()
        return self._unlisted(
            list(self._compare(variant.name, variant.name, *(client.transcript for client in clients)))
        )

    def _unlisted(self, found: list[Difference]) -> list[Difference]:
        """Those that nobody has listed; before them what differed in the preparation, which may be why."""
        self.differences += (one for one in found if one.kind != Kind.SETUP.value)
        unlisted = [
            one
            for one in found
            if not self.known.covers(f"{one.api} v{one.version}", one.scenario, one.path, one.kafka, one.ours)
        ]
        return unlisted if any(one.kind != Kind.SETUP.value for one in unlisted) else []

    def _compare(
        self, name: str, title: str, kafka: list[Exchange], ours: list[Exchange]
    ) -> Iterator[Difference]:
        labels = Labels(), Labels()
        for step, (left, right) in enumerate(zip(kafka, ours, strict=False)):
            self._count(left, right)
            trees = self._tree(left, labels[KAFKA]), self._tree(right, labels[OURS])
            for path, theirs, own in differing("", *trees):
                yield Difference(
                    left.api.name, name, left.version, step, left.kind.value,
                    *(text.replace(title, "NAME") for text in (path, repr(theirs), repr(own))),
                )  # fmt: skip
        if len(kafka) != len(ours):
            last = (kafka if len(kafka) < len(ours) else ours)[-1]
            yield Difference(
                last.api.name, name, last.version, min(len(kafka), len(ours)), last.kind.value, "requests",
                str(len(kafka)), str(len(ours)),
            )  # fmt: skip

    def _tree(self, exchange: Exchange, labels: Labels) -> Tree:
        if exchange.request is not None:
            note_sent(exchange.request, labels)
        outcome = exchange.outcome
        if isinstance(outcome, ApiVersionsResponse):
            served = [one for one in outcome.api_keys if one.api_key not in self.known.unserved]
            outcome = replace(outcome, api_keys=served)
        return tree(outcome, exchange.version, labels)

    def _count(self, left: Exchange, right: Exchange) -> None:
        self.counts.requests[left.api, left.version, left.kind] += 1
        self.counts.sent += 1
        self.counts.same_bytes += left.frame == right.frame


@dataclass(frozen=True)
class Malformed:
    """A way to spoil the body of a valid request."""

    name: str
    api: ApiKey
    first: int
    last: int

    @property
    def sent_as(self) -> int | None:
        """What the header says of the version, if it does not tell the truth."""
        return APIS[self.api].max_version + 1 if self.name == UNSERVED_VERSION else None

    def spoil(self, body: bytes, version: int) -> bytes:
        if self.name == UNSERVED_VERSION:
            return body
        match self.name:
            case "truncated":
                return body[: len(body) // 2]
            case "trailing_garbage":
                return body + GARBAGE
            case _:
                return HUGE_VARINT if version in APIS[self.api].request.FLEXIBLE else HUGE_COUNT


def malformed_variants(api: ApiKey) -> list[Malformed]:
    known = APIS[api]
    # ApiVersions alone is answered then, in version 0.
    future = 0 if api is ApiKey.API_VERSIONS else known.max_version
    return [
        Malformed(UNSERVED_VERSION, api, future, future),
        *(
            Malformed(name, api, known.min_version, known.max_version)
            for name in ("truncated", "trailing_garbage", "huge_count")
        ),
    ]


def _body(exchange: Exchange) -> bytes:
    return bytes(decode_request(exchange.frame[4:])[1])


async def _warm_up(client: Client) -> None:
    try:
        for n in range(COORDINATORS):
            await client.group(f"g{n}")
            await client.transactional_id(f"x{n}")
            await client.share_partition(f"s{n}")
        await client.until_ready(
            InitProducerIdRequest(transactional_id=None), lambda answer: answer.error_code
        )
    finally:
        client.close()
