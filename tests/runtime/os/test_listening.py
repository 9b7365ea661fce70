"""A listening port is held by whoever chose it: nobody can come between."""

from __future__ import annotations

import socket
import threading

import pytest

from streamkit.errors import RefusedError
from streamkit.runtime.os import listening
from streamkit.runtime.os.listening import listen_from


def test_any_number_at_once_get_as_many_ports() -> None:
    with listen_from("127.0.0.1", 0) as first:
        start = first.getsockname()[1]
        together, found = threading.Barrier(8), list[socket.socket]()

        def take() -> None:
            together.wait()
            found.append(listen_from("127.0.0.1", start))

        takers = [threading.Thread(target=take) for _ in range(8)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
        ports = {one.getsockname()[1] for one in found}
        for one in found:
            one.close()
    assert len(ports) == 8
    assert min(ports) > start


def test_none_free_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PORTS_TRIED", 1)
    with listen_from("127.0.0.1", 0) as taken, pytest.raises(RefusedError, match="no free port from"):
        listen_from("127.0.0.1", taken.getsockname()[1])
