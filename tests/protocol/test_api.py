"""The table of APIs: the versions that Kafka 4.3 nodes serve, and the keys of all that Kafka defines."""

from __future__ import annotations

from kio.index import api_key_map

from streamkit.protocol.api import APIS, ApiKey

PLAIN = "0:3-13/9 1:4-18/12 2:1-11/6 3:0-13/9 18:0-4/3 22:0-5/2 23:2-4/4"
GROUPS = (
    "8:2-10/8 9:1-10/6 10:0-6/3 11:0-9/6 12:0-4/4 13:0-5/4 14:0-5/4 15:0-6/5 16:0-5/3 42:0-2/2 47:0-0/None"
)
ADMIN = "19:2-7/5 20:1-6/4 21:0-2/2 32:1-4/4 33:0-2/2 37:0-3/2 44:0-1/1 60:0-2/0 74:0-1/0 75:0-0/0"
CLUSTER = (
    "35:1-5/2 43:0-2/2 45:0-1/0 46:0-0/0 52:0-2/0 53:0-1/1 54:0-1/1 55:0-2/0 56:2-3/0 57:0-2/0 58:0-0/0 "
    "59:0-1/0 62:0-4/0 63:0-2/0 64:0-0/0 67:0-0/0 70:0-0/0 73:0-0/0 80:0-1/0 81:0-0/0 82:0-0/0"
)
TRANSACTIONS = "24:0-5/3 25:0-4/3 26:0-5/3 27:1-2/1 28:0-5/3 61:0-0/0 65:0-0/0 66:0-2/0"
CONSUMER_GROUPS = "68:0-1/0 69:0-1/0"
SHARE_GROUPS = "76:1-1/0 77:1-1/0 78:1-2/0 79:1-2/0 90:0-1/0 91:0-0/0 92:0-0/0"
SHARE_STATES = "83:0-0/0 84:0-0/0 85:0-1/0 86:0-0/0 87:0-1/0"
STREAMS_GROUPS = "88:0-0/0 89:0-0/0"
REST = "34:1-2/2 71:0-0/0 72:0-0/0"


def test_versions_and_first_flexible_versions() -> None:
    ours = {f"{api.key:d}:{api.min_version}-{api.max_version}/{api.first_flexible}" for api in APIS.values()}
    groups = f"{GROUPS} {CONSUMER_GROUPS} {SHARE_GROUPS} {SHARE_STATES} {STREAMS_GROUPS}"
    assert ours == set(f"{PLAIN} {groups} {ADMIN} {CLUSTER} {TRANSACTIONS} {REST}".split())


def test_request_and_response_agree_on_key_and_versions() -> None:
    for key, api in APIS.items():
        assert key == api.key == api.request.KEY == api.response.KEY
        assert api.request.VERSIONS == api.response.VERSIONS
        assert api.request.FLEXIBLE == api.response.FLEXIBLE


def test_api_keys_are_kafkas() -> None:
    theirs = {int(key): name for key, name in api_key_map.items()}
    ours = {key.value: key.name.lower() for key in ApiKey if key.value in theirs}
    assert ours == theirs
