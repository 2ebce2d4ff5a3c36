"""librdkafka's mock cluster as a process: prints its address, ends when standard input closes."""

import sys

from confluent_kafka import Producer

if __name__ == "__main__":
    # The cluster lives as long as this object.
    producer = Producer({"bootstrap.servers": "replaced", "test.mock.num.brokers": 1, "log_level": 0})
    found = producer.list_topics(timeout=30).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in found), flush=True)  # noqa: T201
    sys.stdin.read()
