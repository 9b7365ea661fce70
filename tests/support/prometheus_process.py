"""A real Prometheus (Debian's package) that scrapes what a test runs."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

BINARY = shutil.which("prometheus")
START_S = 30.0


class PrometheusProcess:
    """Scrapes as the committed configuration says, every half second, at the addresses given instead."""

    def __init__(self, directory: Path, configuration: str, addresses: dict[str, str]) -> None:
        for written, actual in addresses.items():
            assert written in configuration
            configuration = configuration.replace(written, actual)
        configuration = configuration.replace("scrape_interval: 5s", "scrape_interval: 500ms")
        directory.mkdir()
        self._log = directory / "log"
        (directory / "prometheus.yml").write_text(configuration)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(BINARY),
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = f"http://{self._address()}"

    def _address(self) -> str:
        """Where it listens, which it says in its log."""
        deadline = time.monotonic() + START_S
        while not (found := re.search(r'"Listening on" address=(\S+)', self._log.read_text())):
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()[-2000:]
            time.sleep(0.02)
        return found[1]

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query; an AssertionError names the query that Prometheus refuses."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it listens, and is still starting
                raise
            raise AssertionError(f"{promql}: {error.read().decode()}") from error
        return found

    def numbers(self, promql: str) -> list[float]:
        """The numbers that the query answers now, without those that are none."""
        values = (float(series["value"][1]) for series in self.query(promql))
        return [value for value in values if not math.isnan(value)]

    def wait_for(self, promql: str, *, at_least: float, timeout_s: float = 30) -> None:
        """Until the sum of the query's answer has reached a number."""
        deadline = time.monotonic() + timeout_s
        found: object = None
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            try:
                found = self.numbers(promql)
            except OSError as error:  # not listening yet, or not answering
                found = error
            else:
                if found and sum(found) >= at_least:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{promql} did not reach {at_least} in {timeout_s} s: {found}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
