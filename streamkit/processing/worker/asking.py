"""Who waits for which reply: the asking side of agents, wherever requests and replies travel.

    asking = Asking(send, open_inbox)      # a topic for replies is opened with the first request
    call = asking.call(request, 10_000)    # sent at once; `await call` for the answer
    asking.heard(headers, value)           # a record of the reply topic

Replies that nobody waits for (any more) are dropped: an agent may reply twice, after a crash for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from streamkit.errors import RefusedError
from streamkit.processing.agent import NoReplyError, Request
from streamkit.processing.record import Headers
from streamkit.processing.replies import Answer, Asked, answer_of, request_headers

Send = Callable[[Request, Headers], Awaitable[None]]  # the request, all of its headers


class Asking:
    """A `Caller`. `send` returns when a request is acknowledged, `open_inbox` with the name of the topic for
    replies. `refusal`: why nobody may ask here.
    """

    def __init__(self, send: Send, open_inbox: Callable[[], Awaitable[str]], refusal: str = "") -> None:
        self._send = send
        self._open_inbox = open_inbox
        self._refusal = refusal
        self._opening = asyncio.Lock()
        self._inbox: str | None = None
        self._waiting: dict[bytes, asyncio.Future[Answer]] = {}
        self._asked = 0

    def call(self, request: Request, timeout_ms: int) -> asyncio.Task[Answer]:
        if self._refusal:
            raise RefusedError(
                f"{request.agent} cannot be asked here: {self._refusal}",
                hint="cast to it, make it a sink, or ask from another program: `async with app:`",
            )
        return asyncio.create_task(self._call(request, timeout_ms), name=f"ask-{request.agent}")

    def heard(self, headers: Headers | None, value: bytes | None) -> None:
        """A record of the reply topic."""
        answer = answer_of(headers, value)
        waiting = None if answer is None else self._waiting.get(answer.number)
        if answer is not None and waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _call(self, request: Request, timeout_ms: int) -> Answer:
        self._asked += 1
        number = b"%d" % self._asked
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                asked = Asked(request.agent, await self._topic(), number)
                await self._send(request, [*(request.headers or ()), *request_headers(asked)])
                await answer
            return answer.result()
        except TimeoutError:
            app, _, agent = request.agent.partition("/")
            raise NoReplyError(
                f"no reply from {agent} within {timeout_ms / 1000:g} s",
                hint=f"does a worker run it? streamkit group describe {app}   (or give it more timeout=)",
            ) from None
        finally:
            del self._waiting[number]

    async def _topic(self) -> str:
        async with self._opening:
            if self._inbox is None:
                self._inbox = await self._open_inbox()
            return self._inbox
