"""The admin clients of confluent-kafka, kafka-python and aiokafka against a real broker process.

The same life of a topic with each: create, describe, alter, grow, delete records, delete; and what they make
of our refusals.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import admin as aio
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka import TopicPartition as Position
from confluent_kafka import admin as confluent
from kafka import TopicPartition as PythonPartition
from kafka import admin as python
from kafka.errors import KafkaError as PythonError
from kafka.errors import TopicAlreadyExistsError

from tests.support.broker_process import BrokerProcess

TIMEOUT_S = 20


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid4().hex[:12]}"


def produce(broker: BrokerProcess, topic: str, count: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=partition)
    assert producer.flush(TIMEOUT_S) == 0


# --- confluent-kafka (librdkafka) ----------------------------------------------------------------


@pytest.fixture
def admin(broker: BrokerProcess) -> confluent.AdminClient:
    return confluent.AdminClient({"bootstrap.servers": broker.bootstrap})


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(KafkaException) as raised:
        call()
    code: int = raised.value.args[0].code()
    return code


def test_confluent_the_life_of_a_topic(
    broker: BrokerProcess, admin: confluent.AdminClient, topic: str
) -> None:
    created = confluent.NewTopic(topic, 3, 1, config={"retention.ms": "5000", "cleanup.policy": "delete"})
    admin.create_topics([created])[topic].result(TIMEOUT_S)

    described = admin.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    assert [partition.leader.id for partition in described.partitions] == [1, 1, 1]
    assert str(described.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA"

    resource = confluent.ConfigResource(confluent.ConfigResource.Type.TOPIC, topic)
    configs = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    assert configs["retention.ms"].value == "5000"
    assert configs["retention.ms"].source == confluent.ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert configs["segment.bytes"].is_default

    changed = confluent.ConfigEntry(
        "retention.ms", "-1", incremental_operation=confluent.AlterConfigOpType.SET
    )
    alteration = confluent.ConfigResource(
        confluent.ConfigResource.Type.TOPIC, topic, incremental_configs=[changed]
    )
    admin.incremental_alter_configs([alteration])[alteration].result(TIMEOUT_S)
    assert admin.describe_configs([resource])[resource].result(TIMEOUT_S)["retention.ms"].value == "-1"

    admin.create_partitions([confluent.NewPartitions(topic, 5)])[topic].result(TIMEOUT_S)
    assert len(admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions) == 5

    produce(broker, topic, 10, partition=4)
    position = Position(topic, 4, 6)
    deleted = admin.delete_records([position])[position].result(TIMEOUT_S)
    assert deleted.low_watermark == 6

    admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    assert topic not in admin.list_topics(timeout=TIMEOUT_S).topics


def test_confluent_refusals(admin: confluent.AdminClient, topic: str) -> None:
    def create(name: str, partitions: int = 1, replicas: int = 1, **configs: str) -> Callable[[], object]:
        new = confluent.NewTopic(
            name,
            partitions,
            replicas,
            config={key.replace("_", "."): value for key, value in configs.items()},
        )
        return lambda: admin.create_topics([new])[name].result(TIMEOUT_S)

    create(topic)()
    assert refused(create(topic)) == KafkaError.TOPIC_ALREADY_EXISTS
    assert refused(create("bad name")) == KafkaError.TOPIC_EXCEPTION
    assert refused(create(topic + "-2", replicas=3)) == KafkaError.INVALID_REPLICATION_FACTOR
    assert refused(create(topic + "-2", retention_ms="soon")) == KafkaError.INVALID_CONFIG
    assert refused(create(topic + "-2", no_such_key="1")) == KafkaError.INVALID_CONFIG
    missing = topic + "-missing"
    assert refused(lambda: admin.delete_topics([missing])[missing].result(TIMEOUT_S)) == (
        KafkaError.UNKNOWN_TOPIC_OR_PART
    )
    fewer = confluent.NewPartitions(topic, 1)
    assert refused(lambda: admin.create_partitions([fewer])[topic].result(TIMEOUT_S)) == (
        KafkaError.INVALID_PARTITIONS
    )
    beyond = Position(topic, 0, 99)
    assert refused(lambda: admin.delete_records([beyond])[beyond].result(TIMEOUT_S)) == (
        KafkaError.OFFSET_OUT_OF_RANGE
    )


def test_confluent_validate_only(admin: confluent.AdminClient, topic: str) -> None:
    admin.create_topics([confluent.NewTopic(topic, 3)], validate_only=True)[topic].result(TIMEOUT_S)
    assert topic not in admin.list_topics(timeout=TIMEOUT_S).topics


def test_confluent_the_cluster_and_its_broker(broker: BrokerProcess, admin: confluent.AdminClient) -> None:
    cluster = admin.describe_cluster(include_authorized_operations=True).result(TIMEOUT_S)
    assert len(cluster.cluster_id) == 22
    assert [(node.id, node.port) for node in cluster.nodes] == [(1, broker.port)]
    assert cluster.controller.id == 1
    assert confluent.AclOperation.ALTER_CONFIGS in cluster.authorized_operations
    resource = confluent.ConfigResource(confluent.ConfigResource.Type.BROKER, "1")
    configs = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    assert configs["num.partitions"].value == "1" and configs["num.partitions"].is_read_only
    assert configs["log.dir"].value == str(broker.data_dir)


def test_a_brokers_alteration_reaches_topics_that_exist(admin: confluent.AdminClient, topic: str) -> None:
    admin.create_topics([confluent.NewTopic(topic, 1)])[topic].result(TIMEOUT_S)

    def alter(operation: confluent.AlterConfigOpType) -> None:
        entry = confluent.ConfigEntry("log.segment.bytes", "54321", incremental_operation=operation)
        broker = confluent.ConfigResource(
            confluent.ConfigResource.Type.BROKER, "1", incremental_configs=[entry]
        )
        admin.incremental_alter_configs([broker])[broker].result(TIMEOUT_S)

    resource = confluent.ConfigResource(confluent.ConfigResource.Type.TOPIC, topic)
    alter(confluent.AlterConfigOpType.SET)
    try:
        entry = admin.describe_configs([resource])[resource].result(TIMEOUT_S)["segment.bytes"]
        assert (entry.value, entry.source) == (
            "54321",
            confluent.ConfigSource.DYNAMIC_BROKER_CONFIG.value,
        )
    finally:
        alter(confluent.AlterConfigOpType.DELETE)


# --- kafka-python --------------------------------------------------------------------------------


@pytest.fixture
def python_admin(broker: BrokerProcess) -> Iterator[python.KafkaAdminClient]:
    client = python.KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    yield client
    client.close()


def test_kafka_python_the_life_of_a_topic(
    broker: BrokerProcess, python_admin: python.KafkaAdminClient, topic: str
) -> None:
    python_admin.create_topics(
        [
            python.NewTopic(
                topic, num_partitions=2, replication_factor=1, topic_configs={"retention.ms": "5000"}
            )
        ]
    )
    (described,) = python_admin.describe_topics([topic])
    assert len(described["partitions"]) == 2
    assert described["partitions"][0]["leader_id"] == 1

    resource = python.ConfigResource(python.ConfigResourceType.TOPIC, topic)
    assert "5000" in str(python_admin.describe_configs([resource]))
    python_admin.alter_configs(
        [python.ConfigResource(python.ConfigResourceType.TOPIC, topic, configs={"retention.ms": "-1"})]
    )
    assert "5000" not in str(python_admin.describe_configs([resource]))

    python_admin.create_partitions({topic: python.NewPartitions(3)})
    assert len(python_admin.describe_topics([topic])[0]["partitions"]) == 3
    paged = python_admin.describe_topic_partitions([topic], response_partition_limit=2)
    assert topic in str(paged)

    produce(broker, topic, 10)
    position = PythonPartition(topic, 0)
    assert "4" in str(python_admin.delete_records({position: 4})[position])

    python_admin.delete_topics([topic])
    assert topic not in python_admin.list_topics()


def test_kafka_python_refusals(python_admin: python.KafkaAdminClient, topic: str) -> None:
    new = python.NewTopic(topic, num_partitions=1, replication_factor=1)
    python_admin.create_topics([new])
    with pytest.raises(TopicAlreadyExistsError):
        python_admin.create_topics([new])
    with pytest.raises(PythonError):
        python_admin.delete_topics([topic + "-missing"])


def test_kafka_python_the_cluster(broker: BrokerProcess, python_admin: python.KafkaAdminClient) -> None:
    cluster = python_admin.describe_cluster()
    assert [one["port"] for one in cluster["brokers"]] == [broker.port]


# --- aiokafka ------------------------------------------------------------------------------------


@pytest.fixture
async def aio_admin(broker: BrokerProcess) -> AsyncIterator[aio.AIOKafkaAdminClient]:
    client = aio.AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await client.start()
    yield client
    await client.close()


async def test_aiokafka_the_life_of_a_topic(
    broker: BrokerProcess, aio_admin: aio.AIOKafkaAdminClient, topic: str
) -> None:
    response = await aio_admin.create_topics(
        [aio.NewTopic(topic, num_partitions=2, replication_factor=1, topic_configs={"retention.ms": "5000"})]
    )
    assert response.topic_errors[0][1] == 0
    (described,) = await aio_admin.describe_topics([topic])
    assert len(described["partitions"]) == 2

    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    assert "5000" in str(await aio_admin.describe_configs([resource]))
    await aio_admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "-1"})])
    assert "5000" not in str(await aio_admin.describe_configs([resource]))

    await aio_admin.create_partitions({topic: aio.NewPartitions(3)})
    assert len((await aio_admin.describe_topics([topic]))[0]["partitions"]) == 3

    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
    deleted = await aio_admin.delete_records({TopicPartition(topic, 0): aio.RecordsToDelete(before_offset=7)})
    assert deleted == {TopicPartition(topic, 0): 7}

    response = await aio_admin.delete_topics([topic])
    assert response.topic_error_codes[0][1] == 0
    assert topic not in await aio_admin.list_topics()


async def test_aiokafka_the_cluster(broker: BrokerProcess, aio_admin: aio.AIOKafkaAdminClient) -> None:
    cluster = await aio_admin.describe_cluster()
    assert str(broker.port) in str(cluster["brokers"])


# --- a restart -----------------------------------------------------------------------------------


def test_what_was_decided_survives_kill_9(new_broker: Callable[..., BrokerProcess]) -> None:
    process = new_broker().start()
    client = confluent.AdminClient({"bootstrap.servers": process.bootstrap})
    kept = confluent.NewTopic("kept", 3, config={"retention.ms": "-1"})
    client.create_topics([kept])["kept"].result(TIMEOUT_S)
    client.create_topics([confluent.NewTopic("dropped", 2)])["dropped"].result(TIMEOUT_S)
    client.delete_topics(["dropped"])["dropped"].result(TIMEOUT_S)
    topic_id = client.describe_topics(TopicCollection(["kept"]))["kept"].result(TIMEOUT_S).topic_id
    process.kill()
    process.start()
    client = confluent.AdminClient({"bootstrap.servers": process.bootstrap})
    found = client.list_topics(timeout=TIMEOUT_S).topics
    assert set(found) == {"kept"} and len(found["kept"].partitions) == 3
    described = client.describe_topics(TopicCollection(["kept"]))["kept"].result(TIMEOUT_S)
    assert str(described.topic_id) == str(topic_id)
    resource = confluent.ConfigResource(confluent.ConfigResource.Type.TOPIC, "kept")
    assert client.describe_configs([resource])[resource].result(TIMEOUT_S)["retention.ms"].value == "-1"


def test_nothing_is_created_where_the_broker_forbids_it(
    new_broker: Callable[..., BrokerProcess], topic: str
) -> None:
    process = new_broker("--set", "auto.create.topics.enable=false").start()
    client = confluent.AdminClient({"bootstrap.servers": process.bootstrap})
    assert client.list_topics(topic, timeout=TIMEOUT_S).topics[topic].error.code() == (
        KafkaError.UNKNOWN_TOPIC_OR_PART
    )
    producer = Producer({"bootstrap.servers": process.bootstrap, "message.timeout.ms": 1000})
    outcome: list[KafkaError | None] = []
    producer.produce(topic, b"x", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(TIMEOUT_S)
    assert outcome[0] is not None
    assert topic not in client.list_topics(timeout=TIMEOUT_S).topics
