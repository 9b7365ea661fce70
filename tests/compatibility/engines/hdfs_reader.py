"""Files in HDFS as anyone may read them: over WebHDFS, the name node's HTTP interface."""

from __future__ import annotations

import json
from urllib.parse import quote
from urllib.request import urlopen

ANSWER_S = 30


class HdfsReader:
    def __init__(self, http: str) -> None:
        self._root = f"{http}/webhdfs/v1"

    def names(self, directory: str) -> list[str]:
        listed = json.loads(self._ask(directory, "LISTSTATUS"))
        return sorted(status["pathSuffix"] for status in listed["FileStatuses"]["FileStatus"])

    def text(self, path: str) -> str:
        return self._ask(path, "OPEN").decode()

    def _ask(self, path: str, operation: str) -> bytes:
        with urlopen(f"{self._root}{quote(path)}?op={operation}", timeout=ANSWER_S) as answer:
            body = answer.read()
            assert isinstance(body, bytes)
            return body
