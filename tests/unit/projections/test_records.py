import msgspec
import pytest

from projections.integration_events import EXTERNAL_KINDS, Event, Kind
from projections.kafka import Kafka
from projections.kafka.records import TOPICS, TYPES, Unread, header, headers_of, read, record_of, timestamp_s
from tests.integration.kafka.outgoing import batch, new_run, outgoing


def all_events() -> dict[Kind, Event]:
    """One event of each type."""
    sink, keys = Kafka("kafka://nobody"), new_run()
    runs = (batch(keys, 1), batch(keys, 0, failed=True))
    return {one.event.kind: one.event for run in runs for one in outgoing(sink, keys, run)}


def test_every_type_has_a_topic_and_a_record() -> None:
    """BATCH-10: each type of event has its topic and its typed value."""
    assert set(all_events()) == set(EXTERNAL_KINDS) == set(TOPICS) == set(TYPES)


@pytest.mark.parametrize("kind", EXTERNAL_KINDS)
def test_a_record_is_the_whole_body(kind: Kind) -> None:
    """The typed value of an event holds its body, nothing less and nothing more."""
    event = all_events()[kind]
    assert msgspec.json.decode(msgspec.json.encode(record_of(event))) == event.body


@pytest.mark.parametrize("kind", EXTERNAL_KINDS)
def test_what_a_newer_version_adds_is_skipped(kind: Kind) -> None:
    """A subscriber reads values that have fields of which it doesn't know."""
    event = all_events()[kind]
    assert read(kind, {**event.body, "news": [1]}) == record_of(event)


@pytest.mark.parametrize(("kind", "payload"), [
    ("Newer", {}), ("", {}), (Kind.UTTERANCE, {}), (Kind.UTTERANCE, 7), (Kind.BATCH_COMPLETED, {"version": 1}),
])
def test_what_cant_be_read_is_said(kind: str, payload: object) -> None:
    """A value of an unknown type or without its fields is told apart, with the reason, rather than raised."""
    found = read(kind, payload)
    assert isinstance(found, Unread)
    assert found.reason


def test_headers_are_read_in_either_form() -> None:
    """Headers come as pairs or as a mapping, or not at all."""
    headers = headers_of(all_events()[Kind.UTTERANCE])
    assert header(headers, "event_type") == header(list(headers.items()), "event_type") == Kind.UTTERANCE
    assert header(None, "event_type") == header([("event_type", b"\xff")], "other") == ""


def test_an_unknown_time_is_left_to_the_broker() -> None:
    """A record has the time at which its event was stated, and none of its own if that isn't known."""
    event = all_events()[Kind.UTTERANCE]
    assert timestamp_s(event) == 1_700_000_000.0
    assert timestamp_s(msgspec.structs.replace(event, occurred_ms=0)) is None
