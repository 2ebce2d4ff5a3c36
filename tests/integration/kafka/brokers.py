"""Clusters for the tests, and what a reader finds in them."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from confluent_kafka import Consumer, Message, TopicPartition

from tests.support.watcher import Watcher

CLUSTER = Path(__file__).with_name("cluster.py")


class Found(NamedTuple):
    """A record as a reader sees it."""

    topic: str
    partition: int
    key: str
    value: bytes
    headers: dict[str, str]


class Brokers:
    """A cluster of one broker, which can be halted and resumed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(CLUSTER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, text=True,
        )
        self._watcher = Watcher(self._process.pid)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, "no cluster"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def url(self) -> str:
        """For Faust."""
        return f"kafka://{self.address}"

    @property
    def port(self) -> int:
        """Where the first broker listens."""
        return int(self.address.rpartition(":")[2])

    def hang(self) -> None:
        """Answer nothing any more, connections stay open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again, also the requests that came meanwhile."""
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Close every connection; records are lost."""
        if self._process.returncode is None:
            self._watcher.stop()
            self._process.kill()
            self._process.communicate()

    def read(self, *topics: str, until: Callable[[list[Found]], bool], timeout_s: float = 30) -> list[Found]:
        """All records from the beginning, once those that `until` waits for have come."""
        consumer = Consumer({
            "bootstrap.servers": self.address, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "log_level": 0,
        })
        try:
            consumer.assign(_partitions(consumer, topics))
            found: list[Found] = []
            while not until(found):
                message = consumer.poll(timeout_s)
                assert message is not None, f"not within {timeout_s} s; there are {len(found)}"
                assert message.error() is None, message.error()
                found.append(_found(message))
            return found
        finally:
            consumer.close()


def _found(message: Message) -> Found:
    headers: dict[str, Any] = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
    return Found(
        str(message.topic()), int(message.partition() or 0), (message.key() or b"").decode(), message.value() or b"",
        {name: value.decode() for name, value in headers.items()},
    )  # fmt: skip


def _partitions(consumer: Consumer, topics: tuple[str, ...]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition, 0) for topic in topics
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions
    ]
