"""Updates of persisted states laid over one another, judged offset by offset."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.coordination.share.states import RecordState, StateBatch, combined

FIRST = st.integers(0, 40)
BATCHES = st.lists(
    st.builds(
        lambda first, size, state, count: StateBatch(first, first + size, state, count),
        FIRST,
        st.integers(-2, 15),
        st.sampled_from([RecordState.AVAILABLE, RecordState.ACKNOWLEDGED, RecordState.ARCHIVED]),
        st.integers(0, 3),
    ),
    max_size=6,
)


@given(BATCHES, BATCHES, FIRST)
def test_of_two_states_of_an_offset_the_later_delivery_wins_and_then_the_nearer_end(
    known: list[StateBatch], news: list[StateBatch], start: int
) -> None:
    model: dict[int, tuple[int, int]] = {}
    for one in (*known, *news):
        for offset in range(one.first, one.last + 1):
            rank = (one.delivery_count, int(one.state))
            model[offset] = max(model.get(offset, rank), rank)
    result = combined(combined((), known, 0), news, start)

    assert {
        offset: (one.delivery_count, int(one.state))
        for one in result
        for offset in range(one.first, one.last + 1)
    } == {offset: rank for offset, rank in model.items() if offset >= start}
    for before, after in itertools.pairwise(result):
        assert before.last < after.first
        assert before.last + 1 < after.first or before[2:] != after[2:]
