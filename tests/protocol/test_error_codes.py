"""Kafka's error codes: complete, with its numbers and its opinion on retries."""

from __future__ import annotations

from kio.schema.errors import ErrorCode as KioErrorCode

from streamkit.protocol.error_codes import ErrorCode, Fault


def test_the_list_is_kafkas() -> None:
    assert {(code.name, code.value, code.retriable) for code in ErrorCode} == {
        (code.name.upper(), code.value, code.retriable) for code in KioErrorCode
    }


def test_a_code_is_found_by_its_number_and_compares_as_one() -> None:
    assert ErrorCode(27) is ErrorCode.REBALANCE_IN_PROGRESS
    assert ErrorCode.NONE == 0
    assert not ErrorCode.NONE


def test_every_code_says_whose_fault_it_is() -> None:
    assert ErrorCode.INVALID_REQUEST.fault is Fault.CLIENT
    assert ErrorCode.KAFKA_STORAGE_ERROR.fault is Fault.CLUSTER
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER.fault is Fault.NOBODY
