"""A real worker as a child process, and the jobs' topics seen from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.support.broker_process import environment, streamkit

WAIT_S = 60.0


class WorkerProcess:
    """`streamkit worker FILE` with its log; `options` are the words after FILE."""

    def __init__(self, app: Path | str, bootstrap: str, *options: str, cwd: Path, **env: str) -> None:
        self.command = streamkit("worker", str(app), "--bootstrap", bootstrap, *options)
        self.cwd = cwd
        self.env = env
        self.log: list[str] = []
        self._before = 0  # lines of those that ran before
        self._said = threading.Condition()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        self._before = len(self.log)
        self.process = subprocess.Popen(
            self.command,
            cwd=self.cwd,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**self.env),
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        return self

    def said(self, *words: str, times: int = 1) -> Self:
        """Wait until that many log lines hold all these words."""
        with self._said:
            found = self._said.wait_for(lambda: len(self.lines(*words)) >= times, WAIT_S)
        ended = self.process.poll() if self.process is not None else None
        assert found, f"{words} not said (exit code {ended}):\n" + "\n".join(self.log[-30:])
        return self

    @property
    def at_work(self) -> bool:
        """Whether this start of it has come so far that a signal makes it drain."""
        return any('"worker started"' in line for line in self.log[self._before :])

    def lines(self, *words: str) -> list[int]:
        """The numbers of the log lines that hold all these words."""
        return [i for i, line in enumerate(self.log) if all(word in line for word in words)]

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it; the exit code of the clean end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        process, self.process = self.process, None
        try:
            return process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._said:
                self.log.append(line.rstrip())
                self._said.notify_all()


class Outside:
    """Topics and commits as another program sees them."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._conf = {"bootstrap.servers": bootstrap, "log_level": 0, "metadata.recovery.strategy": "none"}
        self._admin = AdminClient(self._conf)
        self._producer = Producer({**self._conf, "partitioner": "murmur2_random"})

    def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        """There on return, and clients hear of it."""
        self._admin.create_topics([NewTopic(topic, partitions, config=config)])[topic].result(WAIT_S)
        eventually(lambda: topic in self._admin.list_topics(timeout=WAIT_S).topics)

    def grow(self, topic: str, partitions: int) -> None:
        self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(WAIT_S)

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result(WAIT_S)

    def send(self, topic: str, values: Iterable[Any], key: Callable[[Any], str] | None = None) -> None:
        """JSON values, acknowledged on return."""
        for value in values:
            self._producer.produce(topic, json.dumps(value), key=None if key is None else key(value))
            self._producer.poll(0)
        assert self._producer.flush(WAIT_S) == 0

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=WAIT_S).topics)

    def partitions(self, topic: str) -> int:
        return len(self._admin.list_topics(timeout=WAIT_S).topics[topic].partitions)

    def leader(self, topic: str, partition: int) -> int:
        return self._admin.list_topics(timeout=WAIT_S).topics[topic].partitions[partition].leader

    def read(self, topic: str) -> list[Any]:
        """Every record of the topic as (key, value, headers), partition after partition."""
        consumer = self._consumer("reader")
        count = self.partitions(topic)
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(count)])
        records, ended = [], set[int]()
        while len(ended) < count:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"{topic} does not answer"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition())
            else:
                value = message.value()
                records.append((message.key(), value and json.loads(value), message.headers()))
        consumer.close()
        return records

    def committed(self, group: str, topic: str) -> list[int]:
        """The committed offset of each partition; -1001: none."""
        consumer = self._consumer(group)
        count = self.partitions(topic)
        found = consumer.committed([TopicPartition(topic, p) for p in range(count)], WAIT_S)
        consumer.close()
        return [place.offset for place in found]

    def ends(self, topic: str) -> list[int]:
        return [end for _, end in self._spans(topic)]

    def starts(self, topic: str) -> list[int]:
        """The offset of the first record that each partition still has."""
        return [start for start, _ in self._spans(topic)]

    def _spans(self, topic: str) -> list[tuple[int, int]]:
        consumer = self._consumer("reader")
        places = [TopicPartition(topic, p) for p in range(self.partitions(topic))]
        found = [consumer.get_watermark_offsets(place, WAIT_S) for place in places]
        consumer.close()
        return found

    def caught_up(self, group: str, topic: str) -> None:
        """Wait until the group has committed everything."""
        eventually(
            lambda: [max(0, o) for o in self.committed(group, topic)] == self.ends(topic),
            lambda: f"{self.committed(group, topic)} of {self.ends(topic)} committed",
        )

    def _consumer(self, group: str) -> Consumer:
        return Consumer({**self._conf, "group.id": group, "enable.partition.eof": True})


def eventually(
    check: Callable[[], bool], explain: Callable[[], str] = lambda: "", *, patience_s: float = WAIT_S
) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + patience_s
    while not check():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
