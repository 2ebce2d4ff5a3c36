"""A Kafka cluster in memory: librdkafka's mock cluster, over real TCP, in a process of its own."""

from collections.abc import Iterator

import pytest

from tests.integration.kafka.brokers import Brokers


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    """An empty cluster of one broker."""
    with Brokers() as found:
        yield found
