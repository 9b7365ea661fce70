"""A network in memory: byte streams between hosts, and everything that can go wrong with them.

What a side writes becomes a segment that arrives later, in order within its connection and in any order
across connections. A link is directed. While it is blocked, its segments wait as TCP would resend them, and
connects get no answer; so a partition may be whole, one-way, or a bridge. Loss shows as TCP shows it: as
delay, or as a reset. A reset may leave the first part of a frame behind.

Hosts die in two ways. A killed process leaves a kernel that resets its connections. A host without power says
nothing: its peers keep half-open connections until they write to the host that has come back.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from streamkit.runtime.contracts.network import Receiver
from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.owner import Life, Owner
from streamkit.simulation.trace import Trace

FIRST_PORT = 30_000
SOCKET_BUFFER_BYTES = 256 * 1024
DEFAULT_HIGH_BYTES = 64 * 1024
RESEND_S = 0.2
MOST_RESEND_S = 2.0
CONNECT_RETRY_S = 1.0
CONNECT_TRIES = 7

Address = tuple[str, int]
Link = tuple[str, str]


class Conditions:
    """How the network behaves now."""

    def __init__(self) -> None:
        self.latency_s = (0.0001, 0.0005)
        self.tails_s = [0.0005]
        """Mean of what is added to the latency of a segment; the worst counts, here and below."""
        self.losses = [0.0]
        """How likely a segment has to be sent again."""
        self.splits = [0.0]
        """How likely a segment arrives in two parts."""


class Network:
    """All hosts and what lies between them."""

    def __init__(self, loop: VirtualLoop, random: Random, trace: Trace) -> None:
        self.loop = loop
        self.conditions = Conditions()
        self.connections: dict[Connection, None] = {}
        self.trace = trace
        self.random = random
        self._listening: dict[Address, NodeListening] = {}
        self._up: dict[str, Owner] = {}
        self._blocked: dict[Link, int] = {}
        self.delays_s: dict[Link, list[float]] = {}
        """What a link takes in addition."""
        self._next_port = FIRST_PORT

    def port_for(self, host: str, owner: Owner) -> NodeNetwork:
        """The network as `owner` sees it, who now runs on `host`."""
        self._up[host] = owner
        return NodeNetwork(self, host, owner)

    # -- what can go wrong

    def block(self, source: str, target: str) -> None:
        self._blocked[source, target] = self._blocked.get((source, target), 0) + 1

    def unblock(self, source: str, target: str) -> None:
        link = source, target
        self._blocked[link] -= 1
        if not self._blocked[link]:
            del self._blocked[link]
            for connection in tuple(self.connections):
                for pipe in connection.pipes:
                    if pipe.link == link:
                        pipe.unblocked()

    def is_blocked(self, source: str, target: str) -> bool:
        return (source, target) in self._blocked

    def reset_some(self, share: float) -> int:
        """Reset each connection with this likelihood; how many that were."""
        chosen = [one for one in tuple(self.connections) if self.random.random() < share]
        for connection in chosen:
            connection.reset()
        return len(chosen)

    def host_lost(self, owner: Owner, *, has_power: bool) -> None:
        """The process of `owner` is gone; with power, its kernel says so to its peers."""
        for address, listening in list(self._listening.items()):
            if listening.owner is owner:
                del self._listening[address]
        for host, up in list(self._up.items()):
            if up is owner and not has_power:
                del self._up[host]
        for connection in tuple(self.connections):
            for end in connection.ends:
                if end.owner is owner and has_power:
                    end.vanish()

    # -- what connections need

    def draw_latency_s(self, link: Link) -> float:
        low, high = self.conditions.latency_s
        random = self.random
        tail_s, loss = max(self.conditions.tails_s), max(self.conditions.losses)
        latency_s = low + (high - low) * random.random() + random.expovariate(1 / tail_s)
        if loss:
            resend_s = RESEND_S
            while random.random() < loss and resend_s < MOST_RESEND_S:
                latency_s += resend_s
                resend_s *= 2
        return latency_s + max(self.delays_s.get(link, (0.0,)), default=0.0)

    def is_up(self, host: str) -> bool:
        return host in self._up

    def free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def listen(self, listening: NodeListening) -> None:
        address = listening.host, listening.port
        if address in self._listening:
            raise OSError(errno.EADDRINUSE, "address in use")
        self._listening[address] = listening

    def deafen(self, listening: NodeListening) -> None:
        if self._listening.get((listening.host, listening.port)) is listening:
            del self._listening[listening.host, listening.port]

    def listening_at(self, address: Address) -> NodeListening | None:
        found = self._listening.get(address)
        return found if found is not None and found.accepting else None


class NodeListening:
    def __init__(
        self, network: Network, host: str, port: int, owner: Owner, make_receiver: Callable[[], Receiver]
    ) -> None:
        self.host = host
        self.port = port
        self.owner = owner
        self.make_receiver = make_receiver
        self.accepting = False
        self._network = network

    async def accept(self) -> None:
        self.owner.check()
        self.accepting = True

    def close(self) -> None:
        self._network.deafen(self)


class NodeNetwork:
    """The network port of one incarnation."""

    def __init__(self, network: Network, host: str, owner: Owner) -> None:
        self._network = network
        self._host = host
        self._owner = owner

    async def bind(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> NodeListening:
        self._owner.check()
        port = port or self._network.free_port()
        listening = NodeListening(self._network, self._host, port, self._owner, make_receiver)
        self._network.listen(listening)
        return listening

    async def connect(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> End:
        self._owner.check()
        network, here = self._network, self._host
        for attempt in range(CONNECT_TRIES):
            await asyncio.sleep(network.draw_latency_s((here, host)))
            reachable = not network.is_blocked(here, host) and not network.is_blocked(host, here)
            if reachable and network.is_up(host):
                break
            await asyncio.sleep(CONNECT_RETRY_S * 2**attempt)
        else:
            raise TimeoutError(errno.ETIMEDOUT, f"no answer from {host}:{port}")
        listening = network.listening_at((host, port))
        if listening is None or listening.owner.life is Life.DEAD:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at {host}:{port}")
        connection = Connection(network, (here, network.free_port()), (host, port))
        ours, theirs = connection.ends
        theirs.open(listening.owner, listening.make_receiver)
        ours.open(self._owner, make_receiver)
        return ours


class Connection:
    """Two ends and a pipe in each direction."""

    def __init__(self, network: Network, client: Address, server: Address) -> None:
        self.network = network
        self.ends = End(self, client, server), End(self, server, client)
        self.pipes = (
            Pipe(network, self.ends[0], self.ends[1]),
            Pipe(network, self.ends[1], self.ends[0]),
        )
        self.ends[0].out, self.ends[1].out = self.pipes
        network.connections[self] = None

    def reset(self) -> None:
        """Cut it now; each side may still get the first part of what was under way."""
        for pipe in self.pipes:
            pipe.cut()
        for end in self.ends:
            end.die(ConnectionResetError(errno.ECONNRESET, "connection reset"))

    def forget(self) -> None:
        if all(end.is_lost or end.owner.life is Life.DEAD for end in self.ends):
            self.network.connections.pop(self, None)


class Pipe:
    """One direction. Invariant: segments arrive in the order in which they were sent."""

    def __init__(self, network: Network, source: End, target: End) -> None:
        self.link = source.address[0], target.address[0]
        self.unread = 0
        """Bytes that were written and not yet taken by the other side's program."""
        self._network = network
        self._source = source
        self._target = target
        self._waiting: deque[bytes | None] = deque()
        """Segments that wait for the link; None is the end of the stream."""
        self._flying: deque[bytes | None] = deque()
        self._last_arrival_s = 0.0

    def send(self, data: bytes) -> None:
        self.unread += len(data)
        self._put(data)

    def finish(self) -> None:
        self._put(None)

    def _put(self, segment: bytes | None) -> None:
        if self._waiting or self._network.is_blocked(*self.link):
            self._waiting.append(segment)
        else:
            self._fly(segment)

    def unblocked(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for segment in waiting:
            self._fly(segment)

    def _fly(self, segment: bytes | None) -> None:
        network = self._network
        split = max(network.conditions.splits)
        if segment is not None and split and len(segment) > 1 and network.random.random() < split:
            at = network.random.randrange(1, len(segment))
            self._fly_whole(segment[:at])
            segment = segment[at:]
        self._fly_whole(segment)

    def _fly_whole(self, segment: bytes | None) -> None:
        loop = self._network.loop
        arrival_s = loop.now_s + self._network.draw_latency_s(self.link)
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        self._flying.append(segment)
        loop.call_at(self._last_arrival_s, self._arrive, context=loop.world.context)

    def _arrive(self) -> None:
        """The receiving host's kernel has the segment, if there is such a host."""
        if not self._flying:
            return
        segment = self._flying.popleft()
        self._network.trace.mark(segment or b"")
        self._target.received(segment)

    def cut(self) -> None:
        """Nothing more arrives, but for a part of the next segment."""
        segments = [segment for segment in (*self._flying, *self._waiting) if segment]
        self._flying.clear()
        self._waiting.clear()
        if segments and (part := self._network.random.randrange(len(segments[0]))):
            self._target.received(segments[0][:part])


class End:
    """One side of a connection: the transport that its program writes to, and the kernel behind it."""

    out: Pipe

    def __init__(self, connection: Connection, address: Address, peer: Address) -> None:
        self.address = address
        self.owner: Owner
        self.is_lost = False
        """The program was told of the end, or will never be told anything."""
        self._connection = connection
        self._peer = peer
        self._receiver: Receiver | None = None
        self._inbox: deque[bytes | None] = deque()
        """Arrived and not yet taken by the program."""
        self._reading = True
        self._closing = False
        self._scheduled = False
        self._high = DEFAULT_HIGH_BYTES
        self._low = DEFAULT_HIGH_BYTES // 4
        self._writing_paused = False

    @property
    def _other(self) -> End:
        ends = self._connection.ends
        return ends[1] if self is ends[0] else ends[0]

    def open(self, owner: Owner, make_receiver: Callable[[], Receiver]) -> None:
        """The program learns of its connection; a paused one has it in its backlog until it goes on."""
        self.owner = owner
        receiver = owner.run(make_receiver)
        self._receiver = receiver
        if owner.life is Life.RUNNING:
            owner.run(receiver.connection_made, self)
        else:
            self._scheduled = True
            self._soon(self._made)

    def _made(self) -> None:
        if self._receiver is not None:
            self._receiver.connection_made(self)
            self._feed()

    # -- the kernel's side

    def received(self, segment: bytes | None) -> None:
        if self.is_lost or self._closing or self.owner.life is Life.DEAD:
            if segment is not None and self._connection.network.is_up(self.address[0]):
                self.vanish()
            return
        self._inbox.append(segment)
        if self.owner.life is Life.RUNNING and not self._scheduled:
            self.owner.run(self._feed)
        elif not self._scheduled:
            self._scheduled = True
            self._soon(self._feed)

    def vanish(self) -> None:
        """There is no such connection on this host any more; the other side is told, if it can be."""
        self.is_lost = True
        network, other = self._connection.network, self._other
        self._connection.forget()
        link = self.address[0], other.address[0]
        if not other.is_lost and not network.is_blocked(*link):
            error = ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
            loop = network.loop
            loop.call_later(network.draw_latency_s(link), other.die, error, context=loop.world.context)

    def die(self, error: Exception | None) -> None:
        """The connection is over: the program hears of it as its next event."""
        if self.is_lost:
            return
        self.is_lost = True
        self._connection.forget()
        if self._receiver is not None and self.owner.life is not Life.DEAD:
            self._soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        for segment in self._inbox:
            if segment and not self._closing:
                self._give(receiver, segment)
        self._inbox.clear()
        self._closing = True
        receiver.connection_lost(error)

    def _feed(self) -> None:
        """Give the program what has arrived, while it reads."""
        self._scheduled = False
        receiver = self._receiver
        while self._inbox and self._reading and not self._closing and receiver is not None:
            segment = self._inbox.popleft()
            if segment is None:
                if not receiver.eof_received():
                    self.close()
                return
            rest = self._give(receiver, segment)
            if rest:
                self._inbox.appendleft(rest)

    def _give(self, receiver: Receiver, segment: bytes) -> bytes:
        """Put the segment into the program's buffers; what it does not read any more."""
        position, size = 0, len(segment)
        while position < size and self._reading and not self._closing:
            buffer = receiver.get_buffer(-1)
            count = min(len(buffer), size - position)
            buffer[:count] = segment[position : position + count]
            receiver.buffer_updated(count)
            position += count
        self._other.taken(position)
        return segment[position:]

    def taken(self, count: int) -> None:
        """The other side's program has read so much of what was sent from here."""
        self.out.unread -= count
        if self._writing_paused and self.get_write_buffer_size() <= self._low and not self.is_lost:
            self._writing_paused = False
            self._soon(self._resume_writing)

    def _resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.resume_writing()

    def _soon(self, call: Callable[..., object], *args: object) -> None:
        self._connection.network.loop.call_soon(call, *args, context=self.owner.context)

    # -- the transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.owner.check()
        if self._closing or self.is_lost or not len(data):
            return
        self.out.send(bytes(data))
        if not self._writing_paused and self.get_write_buffer_size() > self._high:
            self._writing_paused = True
            assert self._receiver is not None, "a program writes after it was told of its connection"
            self._receiver.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return max(0, self.out.unread - SOCKET_BUFFER_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = DEFAULT_HIGH_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self._inbox and not self._scheduled and not self.is_lost:
            self._scheduled = True
            self._soon(self._feed)

    def is_closing(self) -> bool:
        return self._closing or self.is_lost

    def close(self) -> None:
        """What was written still arrives, then the end of the stream."""
        if self._closing or self.is_lost:
            return
        self.owner.check()
        self._closing = True
        self.out.finish()
        self.die(None)

    def abort(self) -> None:
        if self.is_lost:
            return
        self.owner.check()
        self._closing = True
        self.vanish()
        self._soon(self._tell_lost, None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._peer, "sockname": self.address}.get(name, default)
