from confluent_kafka import Producer

from projections.forwarding.sink import SENT
from projections.kafka import Kafka
from tests.integration.kafka.brokers import Brokers
from tests.integration.kafka.events import batch, events_of, new_run
from tests.integration.kafka.worker import Subscriber
from tests.support.waiting import eventually_async

WAIT_S = 60
"""Faust starts for seconds, and a group is joined after three."""


async def test_the_example_counts_every_event_once(brokers: Brokers) -> None:
    """BATCH-10: the example prints rate and talk time per speaker and finished recordings, though events came twice and others that it can't read lie between."""  # noqa: E501
    sink, keys = Kafka(brokers.url), new_run()
    events = events_of(sink, keys, batch(keys, 3))
    assert set(await sink.send(events)) == {SENT}
    _disturb(brokers)
    later = events_of(sink, keys, batch(keys, 4, failed=True))
    assert set(await sink.send([*events, *later])) == {SENT}
    await sink.stop()
    with Subscriber(brokers.url) as subscriber:
        await eventually_async(lambda: sorted(subscriber.lines(keys.session_id)) == [
            "ended (stop) after 6.0 s",
            "failed: failed",
            "is transcribed: 6 words",
            "speaker 1: 120 words per minute, 1.0 s of talk",
            "speaker 1: 120 words per minute, 2.0 s of talk",
            "speaker 1: 120 words per minute, 3.0 s of talk",
            "speaker 1: 120 words per minute, 4.0 s of talk",
        ], WAIT_S, "what the subscriber tells")
        assert "record skipped" in subscriber.output()


def _disturb(brokers: Brokers) -> None:
    """Write records of unknown types to both topics, on every partition."""
    producer = Producer({"bootstrap.servers": brokers.address, "log_level": 0})
    for topic in ("stenolog.transcripts", "stenolog.batches"):
        for partition in range(4):
            producer.produce(topic, b"\xff{", partition=partition)
            producer.produce(topic, b"{}", partition=partition, headers={"event_type": b"SomethingNewer"})
            producer.produce(topic, b"{}", partition=partition, headers={"event_type": b"BatchProcessingCompleted"})
    assert producer.flush(30) == 0
