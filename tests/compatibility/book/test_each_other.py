"""What any client writes, every client reads: in one topic all write, and then all read all of it."""

from __future__ import annotations

import pytest

from tests.compatibility.book.conftest import Ensemble
from tests.compatibility.book.scenes import read_all, values, write
from tests.compatibility.clients import EVERYDAY, Confluent
from tests.compatibility.clients.foreign import FOREIGN
from tests.compatibility.contract import Client, Record


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(EVERYDAY, id="everyday", marks=pytest.mark.compat),
        pytest.param(
            (*EVERYDAY, *FOREIGN), id="all", marks=(pytest.mark.compat_all, pytest.mark.xdist_group("all"))
        ),
    ],
)
def test_all_read_what_all_write(
    ensemble: Ensemble, judge: Confluent, name: str, kinds: tuple[type[Client], ...], compression: str
) -> None:
    able = [ensemble.get(kind, judge.bootstrap) for kind in kinds if compression not in kind.lacks]
    judge.create_topic(name, 1)
    records = []
    for writer in able:
        written = [Record(b"k", b"%s-%03d" % (writer.name.encode(), n) * 10) for n in range(50)]
        write(writer, name, written, compression=compression)
        records += written
    for reader in able:
        assert values(read_all(reader, name, len(records))) == values(records), reader.name
