"""What a schema registry has answered so far, and two ways to ask it what it has not.

    a record ─► confluent's (de)serializer ─asks─► Memory ─what it does not know─► their client ─► HTTP

The serializers ask for a schema at every record, and whoever asks waits. What stands between them and the
client remembers every answer, so that a registry hears each question once, and has two faces:

    Waiting   asks again, with growing pauses, while the registry is silent: at start, for what is written
    Prompt    never waits: a thread asks meanwhile, and the record waits (NotYetError), not the event loop

So a registry that is down is no error of a record, and an id that it does not know is one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import msgspec
import structlog

from streamkit.errors import DeadlineError, RefusedError
from streamkit.processing.serde import NotYetError

URL = "STREAMKIT_SCHEMA_REGISTRY"
PAUSE_S = (0.1, 5.0)
PATIENCE_S = 30.0
REFUSAL_S = 5.0  # what a registry does not know today it may know soon
ASKED = frozenset(
    {
        "register_schema",
        "register_schema_full_response",
        "lookup_schema",
        "get_schema",
        "get_schema_by_guid",
        "get_version",
        "get_latest_version",
        "get_latest_with_metadata",
        "get_associations_by_resource_name",
    }
)
TRY_LATER = (401, 403, 408, 429)

log = structlog.get_logger("worker.schemas")
Ask = Callable[[], Any]  # one call of the registry's client


class Answer(msgspec.Struct, frozen=True):
    value: Any
    refusal: Exception | None
    at_s: float

    @property
    def age_s(self) -> float:
        return monotonic() - self.at_s


class Memory:
    """Every answer of a registry so far. `latest_ttl_s`: how long it is true which version is the latest."""

    def __init__(self, client: Any, url: str, latest_ttl_s: float = math.inf) -> None:
        self.client = client
        self.latest_ttl_s = latest_ttl_s
        self._url = url
        self._answers: dict[Any, Answer] = {}
        self._asking: set[Any] = set()
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()

    def known(self, question: Any) -> Answer | None:
        """The answer, unless it is a refusal from long ago."""
        answer = self._answers.get(question)
        if answer is not None and answer.refusal is not None and answer.age_s > REFUSAL_S:
            return None
        return answer

    def ask(self, question: Any, ask: Ask, *, forever: bool = False) -> Answer:
        """Ask until there is an answer, a refusal too. Raises DeadlineError after `PATIENCE_S`, RefusedError
        where the registry wants to know who asks; neither, if it shall ask `forever`.
        """
        pause_s, since_s = PAUSE_S[0], monotonic()
        while True:
            try:
                answer = Answer(ask(), None, monotonic())
                break
            except Exception as error:
                if not _may_pass(error):
                    answer = Answer(None, error, monotonic())
                    break
                if not forever:
                    self._check_patience(error, monotonic() - since_s + pause_s)
                log.warning("the schema registry does not answer", url=self._url, error=_said(error))
                if self._closed.wait(pause_s):
                    raise self._silent(error) from error
            pause_s = min(2 * pause_s, PAUSE_S[1])
        if answer.refusal is not None:
            self._forget_refusals()
        self._answers[question] = answer
        return answer

    def ask_meanwhile(self, question: Any, ask: Ask) -> None:
        """Have a thread ask until there is an answer, unless one does."""
        if question not in self._asking:
            self._asking.add(question)
            thread = partial(threading.Thread, name="schemas", daemon=True)
            thread(target=self._ask_meanwhile, args=(question, ask)).start()

    def _ask_meanwhile(self, question: Any, ask: Ask) -> None:
        try:
            self.ask(question, ask, forever=True)
        except DeadlineError:
            log.info("a question to the schema registry is left", question=str(question))
        finally:
            self._asking.discard(question)

    def _forget_refusals(self) -> None:
        """Of ids that no registry ever gave out there are four thousand million."""
        old = [q for q, answer in list(self._answers.items()) if answer.refusal and answer.age_s > REFUSAL_S]
        for question in old:
            self._answers.pop(question, None)

    def _check_patience(self, error: Exception, waited_s: float) -> None:
        if status_of(error) in (401, 403):
            raise RefusedError(
                f"the schema registry at {self._url} wants to know who asks: {_said(error)}",
                hint='App(schema_registry={"url": ..., "basic.auth.user.info": "name:password"})',
            ) from error
        if waited_s > PATIENCE_S:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> DeadlineError:
        return DeadlineError(
            f"the schema registry at {self._url} does not answer: {_said(error)}",
            hint=f"is it up? App(schema_registry=...) and {URL} say where it is",
        )


class Waiting:
    """The registry's client as a serializer sees it; unknown answers are waited for."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._memory.client, name)
        if name not in ASKED:
            return call
        memory, latest = self._memory, name.startswith("get_latest")

        def ask(*arguments: Any, **options: Any) -> Any:
            question: Any = (name, arguments, *options.items())
            try:
                answer = memory.known(question)
            except TypeError:  # a dict or list among them
                question = repr(question)
                answer = memory.known(question)
            if answer is None:
                answer = self._missing(question, partial(call, *arguments, **options))
            elif (
                latest and answer.age_s > memory.latest_ttl_s
            ):  # the old one serves until the new one is here
                memory.ask_meanwhile(question, partial(call, *arguments, **options))
            if answer.refusal is not None:
                raise answer.refusal
            return answer.value

        self.__dict__[name] = ask
        return ask

    def _missing(self, question: Any, ask: Ask) -> Answer:
        return self._memory.ask(question, ask)


class Prompt(Waiting):
    """The same for a deserializer on the event loop: what is not known is not known yet."""

    def _missing(self, question: Any, ask: Ask) -> Answer:
        self._memory.ask_meanwhile(question, ask)
        raise NotYetError(f"the schema registry has not answered yet: {question}")


def status_of(error: Exception) -> int | None:
    """The HTTP status of what the registry said; None: it said nothing."""
    status: int | None = getattr(error, "http_status_code", None)
    return status


def _may_pass(error: Exception) -> bool:
    """May the same question find an answer later?"""
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in TRY_LATER
    return not isinstance(error, TypeError | ValueError | KeyError)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
