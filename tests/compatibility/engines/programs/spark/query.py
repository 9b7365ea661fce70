"""A query of Spark Structured Streaming from a topic: words counted into another, or records into files.

query.py JARS JOB runs, within a virtual environment that has pyspark, until its standard input ends, and then
finishes what has arrived. JOB is JSON: bootstrap, from (a topic), to (a topic, or a directory's address),
checkpoint, scratch.
"""

import json
import select
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, explode, split

SETTINGS = {
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.streaming.metricsEnabled": "false",
    "spark.hadoop.dfs.replication": "1",
}
TEXT = ("key", "value")


def session(jars, scratch):
    # Two tasks at a time; a task that fails is tried again, as on any cluster.
    builder = SparkSession.builder.master("local[2,4]").config("spark.jars", jars)
    for name, value in {**SETTINGS, "spark.local.dir": scratch}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def records(spark, job):
    """What is committed, in small batches, by more tasks than partitions, so that some begin within one."""
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", job["bootstrap"])
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", job["from"])
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", 200)
        .option("minPartitions", 5)
        .load()
    )


def counts(rows, job):
    """The words' counts as they are after each batch, to a topic."""
    words = rows.select(explode(split(col("value").cast("string"), " ")).alias("key"))
    counted = words.groupBy("key").count().select("key", col("count").cast("string").alias("value"))
    return (
        counted.writeStream.format("kafka")
        .option("kafka.bootstrap.servers", job["bootstrap"])
        .option("topic", job["to"])
        .outputMode("update")
    )


def files(rows, job):
    """Each record as a line of JSON, with its place."""
    readable = rows.select("partition", "offset", *(col(name).cast("string") for name in TEXT))
    return readable.writeStream.format("json").option("path", job["to"])


def main(jars, job):
    rows = records(session(jars, job["scratch"]), job)
    sink = files if "://" in job["to"] else counts
    query = (
        sink(rows, job)
        .option("checkpointLocation", job["checkpoint"])
        .trigger(processingTime="100 milliseconds")
        .start()
    )
    print("RUNNING", flush=True)
    while query.isActive and not select.select([sys.stdin], [], [], 0.2)[0]:
        continue
    if query.isActive:
        query.processAllAvailable()
        query.stop()
    if query.exception() is not None:
        raise query.exception()


main(sys.argv[1], json.loads(sys.argv[2]))
