"""What must have been asked at least, and the table of what was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamkit.protocol.api import ApiKey
from tests.differential.judge import Counts, Judge
from tests.differential.scenario import NEVER_VALID, Kind

LEAST = 3


def gaps(counts: Counts, advertised: Mapping[ApiKey, range]) -> Iterator[str]:
    """Each API and version that we advertise and that was asked too little."""
    for api, numbers in advertised.items():
        for version in numbers:
            valid = LEAST if api in NEVER_VALID else counts.of(api, version, Kind.VALID)
            wrong = counts.of(api, version, Kind.WRONG, Kind.MALFORMED)
            if valid < LEAST or wrong < LEAST:
                yield f"{api.name} v{version}: {valid} valid, {wrong} wrong, {LEAST} of each wanted"


def table(counts: Counts, advertised: Mapping[ApiKey, range]) -> str:
    """Per API and version: valid/boundary/wrong+malformed."""
    lines = ["requests per version: valid/boundary/wrong+malformed"]
    for api, numbers in advertised.items():
        cells = []
        for version in numbers:
            valid, boundary, wrong, malformed = (
                counts.of(api, version, kind)
                for kind in (Kind.VALID, Kind.BOUNDARY, Kind.WRONG, Kind.MALFORMED)
            )
            cells.append(f"v{version} {valid}/{boundary}/{wrong}+{malformed}")
        lines.append(f"{api.value:3} {api.name:32} " + "  ".join(cells))
    return "\n".join(lines)


def figures(judge: Judge) -> str:
    counts = judge.counts
    versions = len({(api, version) for api, version, kind in counts.requests if kind is not Kind.SETUP})
    return (
        f"{counts.plays} plays, {counts.sent} requests to each server ({counts.same_bytes} the same byte for"
        f" byte, the others name ids that the server chose), {versions} versions of APIs,"
        f" {len(judge.differences)} fields that differ, {len(judge.known.rows)} rows listed"
    )
