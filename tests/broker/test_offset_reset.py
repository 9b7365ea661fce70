"""What `share.auto.offset.reset` may say."""

from __future__ import annotations

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.config_key import InvalidValueError
from streamkit.broker.offset_reset import OffsetReset, ResetTo, parse_reset


@pytest.mark.parametrize(
    "text, meaning",
    [
        ("earliest", OffsetReset(ResetTo.EARLIEST)),
        ("latest", OffsetReset(ResetTo.LATEST)),
        ("by_duration:PT1H", OffsetReset(ResetTo.DURATION, 3_600_000)),
        ("by_duration:P1DT2H3M4.5S", OffsetReset(ResetTo.DURATION, 93_784_500)),
        ("by_duration:pt0.25s", OffsetReset(ResetTo.DURATION, 250)),
        ("by_duration:P", None),
        ("by_duration:PT", None),
        ("by_duration:1H", None),
        ("by_duration:-PT1H", None),
        ("none", None),
        ("", None),
    ],
)
def test_what_a_text_means(text: str, meaning: OffsetReset | None) -> None:
    assert parse_reset(text) == meaning


def test_a_group_cannot_be_told_to_begin_nowhere() -> None:
    config = BrokerConfig()
    group = config.group_defaults.altered({"share.auto.offset.reset": "somewhere"})
    with pytest.raises(InvalidValueError, match="somewhere"):
        group.check(config)
