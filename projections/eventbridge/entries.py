"""PutEvents' entries: made, measured, put into groups that one request may hold. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from projections.integration_events import Event

MOST_ENTRIES = 10
"""Of one request, by the service's own model."""

TIME_BYTES = 14
"""What a Time counts, whatever is in it; see `size_bytes`."""

Entry = dict[str, Any]

_encoder = msgspec.json.Encoder()


class Prepared(NamedTuple):
    """An event and the entry that tells of it.

    Attributes:
        place: Of the event in the call.
        event: What is told.
        entry: As PutEvents takes it.
        detail_bytes: Length of its Detail.
    """

    place: int
    event: Event
    entry: Entry
    detail_bytes: int


class Stored(NamedTuple):
    """A body that becomes an object of its own."""

    key: str
    content: bytes


def prepared(place: int, event: Event, body: dict[str, Any], *, source: str, bus_name: str) -> Prepared:
    """The entry of an event with that body.

    The stable event id is the one resource: the service gives each entry an id of its own, another one whenever the
    event is sent again, and the body's fields are fixed.
    """
    detail = _encoder.encode(body)
    entry: Entry = {
        "Source": source, "DetailType": str(event.kind), "Detail": detail.decode(), "EventBusName": bus_name,
        "Resources": [f"urn:uuid:{event.event_id}"],
    }  # fmt: skip
    if event.occurred_ms:
        entry["Time"] = datetime.fromtimestamp(event.occurred_ms / 1000, UTC)
    return Prepared(place, event, entry, len(detail))


def size_bytes(entry: Entry) -> int:
    """How large the service takes an entry to be.

    As "Calculating PutEvents event entry size" in its user guide has it: 14 for a Time, and the UTF-8 lengths of
    Source, DetailType, Detail and each of the Resources.
    """
    texts = (entry["Source"], entry["DetailType"], entry["Detail"], *entry.get("Resources", ()))
    return sum(len(text.encode()) for text in texts) + (TIME_BYTES if "Time" in entry else 0)


def stored(event: Event, prefix: str) -> Stored:
    """The object that holds the event's whole body; the same event makes the same object."""
    # Tenants may have slashes in their names; each shall have one folder, which no other's name leads into.
    tenant = quote(event.tenant_id, safe="")
    return Stored(f"{prefix}{tenant}/{event.session_id}/{event.event_id}.json", _encoder.encode(event.body))


def referring(event: Event, bucket: str, held: Stored) -> dict[str, Any]:
    """The event's body with a reference in place of its data."""
    reference = {
        "bucket": bucket, "key": held.key, "bytes": len(held.content),
        "sha256": hashlib.sha256(held.content).hexdigest(),
    }  # fmt: skip
    return {**event.body, "data": {"reference": reference}}


def groups(entries: Sequence[Prepared], most_bytes: int) -> Iterator[list[Prepared]]:
    """The entries in order, as few requests as may be, each within the limits and with one event of a session at most.

    Entries of one request succeed and fail apart; a session's second event must wait for what becomes of its first.
    """
    group: list[Prepared] = []
    total_bytes = 0
    for one in entries:
        one_bytes = size_bytes(one.entry)
        repeated = any(one.event.session_id == other.event.session_id for other in group)
        if group and (repeated or len(group) == MOST_ENTRIES or total_bytes + one_bytes > most_bytes):
            yield group
            group, total_bytes = [], 0
        group.append(one)
        total_bytes += one_bytes
    if group:
        yield group
