"""Letters are read back as they were written, and what was redriven fits into a note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import RefusedError
from streamkit.processing.dead_letters import Redriven, letter_of
from streamkit.processing.error_policy import PREFIX, dead_letter_headers
from streamkit.processing.record import Headers
from streamkit.processing.testing import StoredRecord

OWN: Headers = [("streamkit.other", b"1"), ("h", None)]


def dead(origin: StoredRecord | None, error: Exception) -> StoredRecord:
    return StoredRecord(("dead", 0, 7), (b"k", b"v"), 1, dead_letter_headers(origin, "operator", error))


def test_a_story_comes_off_again() -> None:
    letter = letter_of(dead(StoredRecord(("in", 2, 30), (b"k", b"v"), 1, OWN), ValueError("no")))
    assert letter is not None
    assert (letter.topic, letter.partition, letter.offset) == ("in", 2, 30)
    assert (letter.operator, letter.error, letter.message) == ("operator", "ValueError", "no")
    assert letter.headers == OWN


def test_a_letter_about_a_letter_goes_back_to_the_first_dead_letters() -> None:
    first = dead(StoredRecord(("in", 2, 30), (b"k", b"v"), 1, OWN), ValueError("no"))
    second = letter_of(dead(first, KeyError("again")))
    assert second is not None
    assert (second.topic, second.offset, second.headers) == ("dead", 7, first.headers())


def test_what_came_from_no_record_has_no_home_and_others_have_no_story() -> None:
    letter = letter_of(dead(None, ValueError()))
    assert letter is not None
    assert letter.topic is None
    assert letter_of(StoredRecord(("dead", 0, 0), (None, b"v"), 1, OWN)) is None


FATES = st.lists(st.sampled_from(["settled", "left", "no letter"]), max_size=40)


@given(FATES, st.lists(st.integers(0, 40), max_size=4))
def test_each_run_goes_on_where_the_former_ones_left(choices: list[str], reached: list[int]) -> None:
    """Runs that come so far each, and choose anew among what is left."""
    home: set[int] = set()
    progress = Redriven()
    for number, until in enumerate(reached):
        for offset, fate in enumerate(choices[:until]):
            assert progress.done(offset) == (offset in home)
            if offset in home or fate == "no letter":
                continue
            if (fate == "settled") == bool(number % 2):
                home.add(offset)
                progress.settle(offset)
            else:
                progress.leave(offset)
        # gaps that hold no letter, before the first that stays, count as gone
        offset, text = progress.note(max(progress.offset, len(choices[:until])))
        home |= set(range(offset))
        progress = Redriven(offset, text)
    for offset in range(len(choices)):
        assert progress.done(offset) == (offset in home), offset


@given(st.lists(st.sampled_from(["settled", "left"]), max_size=40), st.integers(0, 40))
def test_a_second_run_finds_what_the_first_left(fates: list[str], until: int) -> None:
    first = Redriven()
    looked_at = fates[:until]
    for offset, fate in enumerate(looked_at):
        if fate == "settled":
            first.settle(offset)
        else:
            first.leave(offset)
    second = Redriven(*first.note(len(looked_at)))
    for offset, fate in enumerate(fates):
        assert second.done(offset) == (offset < until and fate == "settled"), offset


class CountedInt(int):
    """A number that counts how often numbers like it are compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        CountedInt.compared += 1
        return int(self) < int(other)

    def __le__(self, other: int) -> bool:
        CountedInt.compared += 1
        return int(self) <= int(other)

    def __gt__(self, other: int) -> bool:
        CountedInt.compared += 1
        return int(self) > int(other)

    def __ge__(self, other: int) -> bool:
        CountedInt.compared += 1
        return int(self) >= int(other)

    def __add__(self, other: int) -> CountedInt:
        return CountedInt(int(self) + int(other))


@pytest.mark.parametrize("kept", [2, 3, 10_000])
def test_a_letter_costs_the_same_however_many_there_were(kept: int) -> None:
    """Every letter is looked at, those at multiples of `kept` stay; of a former run some are done already."""
    compared = []
    for letters in (1_000, 8_000):
        CountedInt.compared = 0
        progress = Redriven(0, ",".join(str(offset) for offset in range(2, 200, 3)))
        for offset in map(CountedInt, range(letters)):
            if not progress.done(offset):
                progress.settle(offset) if offset % kept else progress.leave(offset)
        compared.append(CountedInt.compared / letters)
    assert compared[1] <= compared[0] <= 10


def test_a_note_has_room_for_so_much() -> None:
    progress = Redriven()
    for offset in range(40_000):
        if offset % 2:
            progress.settle(offset)
        else:
            progress.leave(offset)
    with pytest.raises(RefusedError, match="scattered"):
        progress.note(40_000)


def test_the_driver_redrives() -> None:
    app = sk.App("checks")
    numbers = app.topic("numbers", key=str, value=int)
    limit = [5]

    @app.agent(numbers, sink="small", on_error=sk.DeadLetter("dead"))
    def check(n: int) -> int:
        if n > limit[0]:
            raise ValueError(n)
        return n

    with app.test() as t:
        t.send_all(numbers, [(3, "a"), (9, "b")])
        assert t.read("small") == [3]
        limit[0] = 10
        assert t.redrive("dead") == 1
        assert t.redrive("dead") == 0
        assert t.read("small") == [9]
        assert [r.headers for r in t.records(numbers)] == [[], [], []]


def test_a_story_that_makes_no_sense_is_told_as_far_as_it_goes() -> None:
    told = [("topic", b"in"), ("partition", b"x"), ("offset", None), ("operator", b"\xff")]
    record = StoredRecord(("dead", 0, 0), (b"k", b"v"), 0, [(PREFIX + name, value) for name, value in told])
    letter = letter_of(record)
    assert letter is not None
    assert (letter.operator, letter.topic, letter.partition, letter.offset) == ("\ufffd", "in", -1, -1)
