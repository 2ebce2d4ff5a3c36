"""Events as the forwarders hand them to the sink, made of facts."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import boto3  # type: ignore[import-untyped]

from eventlog.events import Batch, SessionEnded, SessionOpened
from eventlog.keys import RunKeys
from eventlog.positions import SEALED, Position
from projections.eventbridge import EventBridge, EventBridgeSettings
from projections.integration_events import Event, Kind, make_event
from stenolog.operations.aws.access import Access
from stenolog.operations.aws.desired_state import Names
from stenolog.operations.aws.setup import Provisioned, Setup
from tests.integration.projections.facts import final, keys_of, with_words

SAID = "The quick brown fox jumps over the lazy dog."
SETTINGS = EventBridgeSettings()


def completed(
    text: str = SAID, *, session_id: str | None = None, tenant_id: str | None = None, position: Position = SEALED,
    words: bool = False,
) -> Event:  # fmt: skip
    """The event of a recorded file in which that was said."""
    keys = keys_of(session_id or str(uuid.uuid4()))
    return _ended(keys, tenant_id or str(uuid.uuid4()), position, text=text, words=words)


def failed(detail: str = "the recording holds no audio") -> Event:
    """The event of a recorded file that failed."""
    return _ended(keys_of(str(uuid.uuid4())), str(uuid.uuid4()), SEALED, reason="failed", detail=detail)


def _ended(
    keys: RunKeys, tenant_id: str, position: Position, *, reason: str = "stop", text: str = "", detail: str = "",
    words: bool = False,
) -> Event:  # fmt: skip
    opened = SessionOpened(
        session_id=keys.session_id, run="live", sample_rate_hz=16_000, channels=1, engine="mock", tenant_id=tenant_id,
        batch=Batch(user_id="ana"),
    )  # fmt: skip
    end = SessionEnded(
        reason=reason, audio_samples=32_000, utterances=1, sample_rate_hz=16_000, ended_ms=1_700_000_100_000,
        detail=detail,
    )
    said = with_words(final(0, text)[1])
    kind = Kind.BATCH_FAILED if reason == "failed" else Kind.BATCH_COMPLETED
    return make_event(kind, keys, opened, (position, end), [said], with_words=words)


@asynccontextmanager
async def started(settings: EventBridgeSettings) -> AsyncIterator[EventBridge]:
    """A sink that is stopped at the end."""
    sink = EventBridge(settings)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


def client(service: str, url: str) -> Any:  # noqa: ANN401 - boto3 ships no types
    """A client of the tests' own."""
    return boto3.client(service, region_name="us-east-1", endpoint_url=url)


def provisioned(url: str, **names: str) -> Provisioned:
    """Queues, rule and target at the emulator."""
    access = Access(region="us-east-1", endpoint_url=url, overrule=True)
    return Setup(access, Names(**names), lambda _: None).run()


def received(url: str, queue_url: str) -> list[dict[str, Any]]:
    """The events in a queue, which are taken from it."""
    sqs = client("sqs", url)
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
        found += [json.loads(message["Body"]) for message in messages]
        for message in messages:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found
