import msgspec
import pytest

from projections.integration_events import EXTERNAL_KINDS, Event, Kind
from projections.kafka import Kafka
from projections.kafka.records import (
    TOPICS,
    TYPES,
    UnreadableRecord,
    make_headers,
    make_record,
    read_header,
    read_record,
    timestamp_s,
)
from tests.integration.kafka.events import batch, events_of, new_run


def all_events() -> dict[Kind, Event]:
    """One event of each type."""
    sink, keys = Kafka("kafka://nobody"), new_run()
    runs = (batch(keys, 1), batch(keys, 0, failed=True))
    return {one.kind: one for run in runs for one in events_of(sink, keys, run)}


def test_every_type_has_a_topic_and_a_record() -> None:
    """BATCH-10: each type of event has its topic and its typed value."""
    assert set(all_events()) == set(EXTERNAL_KINDS) == set(TOPICS) == set(TYPES)


@pytest.mark.parametrize("kind", EXTERNAL_KINDS)
def test_a_record_is_the_complete_body(kind: Kind) -> None:
    """The typed value of an event holds its body, nothing less and nothing more."""
    event = all_events()[kind]
    assert msgspec.json.decode(msgspec.json.encode(make_record(event))) == event.body


@pytest.mark.parametrize("kind", EXTERNAL_KINDS)
def test_fields_of_a_newer_version_are_skipped(kind: Kind) -> None:
    """A subscriber reads values that have fields of which it doesn't know."""
    event = all_events()[kind]
    assert read_record(kind, {**event.body, "news": [1]}) == make_record(event)


@pytest.mark.parametrize(("kind", "payload"), [
    ("Newer", {}), ("", {}), (Kind.UTTERANCE, {}), (Kind.UTTERANCE, 7), (Kind.BATCH_COMPLETED, {"version": 1}),
])
def test_an_unreadable_value_has_its_reason(kind: str, payload: object) -> None:
    """A value of an unknown type or without its fields is unreadable, with the reason, rather than raised."""
    found = read_record(kind, payload)
    assert isinstance(found, UnreadableRecord)
    assert found.reason


def test_headers_are_read_in_either_form() -> None:
    """Headers come as pairs or as a mapping, or not at all."""
    headers = make_headers(all_events()[Kind.UTTERANCE])
    assert read_header(headers, "event_type") == read_header(list(headers.items()), "event_type") == Kind.UTTERANCE
    assert read_header(None, "event_type") == read_header([("event_type", b"\xff")], "other") == ""


def test_an_unknown_time_is_left_to_the_broker() -> None:
    """A record has the time at which its event was stated, and none of its own if that isn't known."""
    event = all_events()[Kind.UTTERANCE]
    assert timestamp_s(event) == 1_700_000_000.0
    assert timestamp_s(msgspec.structs.replace(event, occurred_ms=0)) is None
