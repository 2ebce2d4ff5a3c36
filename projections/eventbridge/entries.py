"""Entries of PutEvents: made, measured, split into requests. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from projections.integration_events import Event

MOST_ENTRIES = 10
"""Of one request, by the service's own model."""

TIME_BYTES = 14
"""The size of a Time, whatever its value; see `Entry`."""

_encoder = msgspec.json.Encoder()


class Entry(NamedTuple):
    """An event as an entry of PutEvents.

    Attributes:
        place: Of the event in the call.
        event: The event.
        fields: As PutEvents takes them.
        size_bytes: How large the service takes the entry to be: as "Calculating PutEvents event entry size" in its user
            guide has it, 14 for a Time, and the UTF-8 lengths of Source, DetailType, Detail and each of the Resources.
        detail_bytes: Length of its Detail.
    """

    place: int
    event: Event
    fields: dict[str, Any]
    size_bytes: int
    detail_bytes: int


class StoredBody(NamedTuple):
    """A body that becomes an object of its own."""

    key: str
    content: bytes


def make_entry(place: int, event: Event, body: dict[str, Any], *, source: str, bus_name: str) -> Entry:
    """The entry of an event with that body.

    The stable event id is the one resource: the service gives each entry an id of its own, another one whenever the
    event is sent again, and the body's fields are fixed.
    """
    detail = _encoder.encode(body)
    resource = f"urn:uuid:{event.event_id}"
    fields: dict[str, Any] = {
        "Source": source, "DetailType": str(event.kind), "Detail": detail.decode(), "EventBusName": bus_name,
        "Resources": [resource],
    }  # fmt: skip
    size_bytes = len(detail) + sum(len(text.encode()) for text in (source, event.kind, resource))
    if event.occurred_ms:
        fields["Time"] = datetime.fromtimestamp(event.occurred_ms / 1000, UTC)
        size_bytes += TIME_BYTES
    return Entry(place, event, fields, size_bytes, len(detail))


def stored_body(event: Event, prefix: str) -> StoredBody:
    """The object that holds the event's whole body; the same event makes the same object."""
    # Tenants may have slashes in their names; each shall have one folder, which no other's name leads into.
    tenant = quote(event.tenant_id, safe="")
    return StoredBody(f"{prefix}{tenant}/{event.session_id}/{event.event_id}.json", _encoder.encode(event.body))


def reference_body(event: Event, bucket: str, stored: StoredBody) -> dict[str, Any]:
    """The event's body with a reference in place of its data."""
    reference = {
        "bucket": bucket, "key": stored.key, "bytes": len(stored.content),
        "sha256": hashlib.sha256(stored.content).hexdigest(),
    }  # fmt: skip
    return {**event.body, "data": {"reference": reference}}


def split_requests(entries: Iterable[Entry], most_bytes: int) -> Iterator[list[Entry]]:
    """Split the entries, in order, into few requests, each within the limits and with one event of a session at most.

    Entries of one request succeed and fail apart; a session's second event must wait for the result of its first.
    """
    request: list[Entry] = []
    total_bytes = 0
    for one in entries:
        is_repeated = any(one.event.session_id == other.event.session_id for other in request)
        if request and (is_repeated or len(request) == MOST_ENTRIES or total_bytes + one.size_bytes > most_bytes):
            yield request
            request, total_bytes = [], 0
        request.append(one)
        total_bytes += one.size_bytes
    if request:
        yield request
