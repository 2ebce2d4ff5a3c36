"""The way to AWS: settings, clients by boto3's own chain of credentials, and the calls, which block.

boto3 is imported when the first client is made, since it takes longer to import than everything else of this process.
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import msgspec

from eventlog.aws import new_client, new_session, resolve_endpoint
from projections.eventbridge.entries import StoredBody

Encryption = Literal["AES256", "aws:kms", "bucket"]
"""Server-side encryption that objects ask for by header; ``bucket``: by none, so that the bucket's own rule decides."""

MOST_CALLS = 8
"""PutEvents at once: at 20 ms each, 4,000 events a second, above the service's quota in most regions."""

READ_S = 10.0
"""PutEvents answers within tens of milliseconds; one that takes so long is as good as lost and comes again."""


class EventBridgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the sink.

    Attributes:
        source: Source of the events.
        bus_name: Name or ARN of the bus.
        region: AWS region.
        endpoint_url: Address of an emulator; empty for what boto3 finds by itself.
        bucket: S3 bucket for bodies above `max_bytes`; empty for none.
        bucket_prefix: What keys in that bucket begin with.
        encryption: How these objects are encrypted.
        max_bytes: Largest entry, and sum of the entries of a request. The service takes "1MB" (PutEvents in its API
            model, since January 2026), which this stays below in either meaning, with room for the envelope on its
            way through SQS (1 MiB).
        lookup_s: How long a call waits for credentials that are being looked up.
        relook_s: After which it is looked once more for credentials that were not there.
    """

    source: str = "com.yourapp.transcription"
    bus_name: str = "default"
    region: str = "us-east-1"
    endpoint_url: str = ""
    bucket: str = ""
    bucket_prefix: str = "stenolog/"
    encryption: Encryption = "AES256"
    max_bytes: int = 1_000_000
    lookup_s: float = 5.0
    relook_s: float = 60.0


class Clients:
    """What calls AWS; safe to use from several threads."""

    def __init__(self, settings: EventBridgeSettings, session: Any) -> None:  # noqa: ANN401 - boto3 ships no types
        self._settings = settings
        self._session = session
        self._lock = threading.Lock()
        self._s3: Any = None
        self.events = _new_client(session, "events", settings.endpoint_url)

    def put_object(self, stored: StoredBody) -> None:
        """Store an object; storing the same again changes nothing.

        Raises:
            Exception: botocore's, if it isn't stored.
        """
        with self._lock:  # a session's clients must not be made at the same time
            self._s3 = self._s3 or _new_client(self._session, "s3", self._settings.endpoint_url)
        encryption = self._settings.encryption
        encryption_arguments = {} if encryption == "bucket" else {"ServerSideEncryption": encryption}
        self._s3.put_object(
            Bucket=self._settings.bucket, Key=stored.key, Body=stored.content, ContentType="application/json",
            **encryption_arguments,
        )

    def secrets(self) -> tuple[str, ...]:
        """The secrets that no log may hold, as far as they are known without another look-up."""
        found = getattr(self._session.get_credentials(), "__dict__", {})
        return tuple(str(found[name]) for name in ("_secret_key", "_token", "secret_key", "token") if found.get(name))

    def close(self) -> None:
        """Close the connections."""
        for client in filter(None, (self.events, self._s3)):
            client.close()


def connect(settings: EventBridgeSettings) -> Clients | None:
    """Clients with the credentials that boto3's chain finds; None if it finds none. May take seconds off AWS.

    Raises:
        Exception: botocore's, if credentials are configured but can't be had.
    """
    session = new_session(settings.region)
    credentials = session.get_credentials()
    if credentials is None:
        return None
    credentials.get_frozen_credentials()  # fetches those that are fetched when needed, so that errors show now
    return Clients(settings, session)


def _new_client(session: Any, service: str, endpoint_url: str) -> Any:  # noqa: ANN401 - boto3 ships no types
    """Return a client that makes one attempt: its caller tries again, with pauses that it chooses."""
    return new_client(
        session, service, resolve_endpoint(service, endpoint_url), attempts=1, read_timeout_s=READ_S,
        max_connections=MOST_CALLS,
    )  # fmt: skip
