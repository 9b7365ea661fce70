"""ApiVersions: how a client finds out what is served."""

from __future__ import annotations

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from tests.differential.scenario import Client, scenario

API = ApiKey.API_VERSIONS


def hello(name: str = "streamkit", version: str = "1.0") -> ApiVersionsRequest:
    return ApiVersionsRequest(client_software_name=name, client_software_version=version)


@scenario(API, "0-4")
async def what_is_served(client: Client) -> None:
    for name, version in (
        ("streamkit", "1.0"),
        ("a", "9"),
        ("apache-kafka-java", "4.3.0-SNAPSHOT"),
        ("a.b", "1-2"),
    ):
        await client.valid(hello(name, version))
    await client.boundary(hello("x" * 200, "1"))


@scenario(API, "0-4")
async def bad_names_of_software(client: Client) -> None:
    for name, version in (("", "1"), ("a", ""), ("-a", "1"), ("a b", "1"), ("a.", "1"), ("é", "1")):
        await client.wrong(hello(name, version))
