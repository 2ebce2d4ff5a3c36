"""Body and signature of a webhook, as the Standard Webhooks specification has them. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec

from eventlog.readmodel.statuses import format_iso
from projections.integration_events import Event

SCHEME = "v1"
"""HMAC-SHA256 by a shared secret, in that specification's numbering."""

Headers = list[tuple[bytes, bytes]]


def payload(event: Event) -> bytes:
    """The body of the request: the same bytes for the same event each time."""
    return msgspec.json.encode({"type": event.kind, "timestamp": format_iso(event.occurred_ms), "data": event.body})


def signature(key: bytes, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of ``webhook-signature`` for a request made at this Unix time."""
    signed = f"{webhook_id}.{timestamp_s}.".encode() + body
    return f"{SCHEME},{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def signed_headers(key: bytes, webhook_id: str, timestamp_s: int, body: bytes) -> Headers:
    """The headers by which a receiver verifies the sender and the age of the request, and knows its event."""
    return [
        (b"content-type", b"application/json"),
        (b"webhook-id", webhook_id.encode()),
        (b"webhook-timestamp", str(timestamp_s).encode()),
        (b"webhook-signature", signature(key, webhook_id, timestamp_s, body).encode()),
    ]
