"""An example of a subscriber, to run and to copy: ``faust -A projections.kafka.subscriber worker``.

It reads both topics and tells, per minute, who speaks how much and how fast, and which recordings are done. Faust's own
variables hold for it, such as TOPIC_PARTITIONS; see docs/kafka.md.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import cast

import click
import faust
from faust.types import EventT, StreamT

from projections.kafka.records import (
    BATCHES,
    ID_HEADER,
    TRANSCRIPTS,
    BatchProcessingCompleted,
    BatchProcessingFailed,
    Record,
    TranscriptEnded,
    TranscriptUtterance,
    Unread,
    header,
)
from projections.kafka.talk_time import Seen, Spoken, counted, line, nothing
from projections.kafka.topics import typed_topic

WINDOW_S = 60.0
"""Rates are told per minute."""

KEPT_S = 3600.0
"""Windows are kept for an hour, for utterances that come late."""

REMEMBERED = 100_000
"""Ids of events that may come again: some megabytes, and minutes of thousands of sessions."""

app = faust.App(
    "stenolog-subscriber", broker=os.environ.get("STENOLOG_KAFKA_URL", "kafka://localhost:9092"),
    # Faust's web server would listen on every address, without authentication; `--without-web` leaves it out.
    web_enabled=False, web_bind="localhost",
)  # fmt: skip
speaking = app.Table("speaking", default=nothing, key_type=str).tumbling(WINDOW_S, expires=KEPT_S)
"""Spoken per session and speaker, in windows of the records' own time: when the utterance was final."""

_seen = Seen(REMEMBERED)
_tell = partial(click.echo, file=sys.stdout)  # as it is now: a worker makes warnings of what is printed later


@app.agent(typed_topic(app, TRANSCRIPTS))
async def count_speech(stream: StreamT[Record | Unread]) -> None:
    """Counts each utterance once and tells the speaker's minute so far."""
    async for event in stream.events():
        match _news(event):
            case TranscriptUtterance() as utterance:
                key = f"{utterance.session_id} {utterance.speaker}"
                spoken: Spoken = counted(speaking[key].value(), utterance)
                speaking[key] = spoken
                _tell(line(utterance.session_id, utterance.speaker, spoken))
            case TranscriptEnded() as ended:
                _tell(f"{ended.session_id} ended ({ended.reason}) after {ended.audio_seconds:.1f} s")


@app.agent(typed_topic(app, BATCHES))
async def tell_recordings(stream: StreamT[Record | Unread]) -> None:
    """Tells each finished recording once."""
    async for event in stream.events():
        match _news(event):
            case BatchProcessingCompleted() as batch:
                _tell(f"{batch.interaction_id} is transcribed: {len(batch.data.raw_transcript.split())} words")
            case BatchProcessingFailed() as failed:
                _tell(f"{failed.interaction_id} failed: {failed.data.reason}")


def _news(event: EventT[Record | Unread]) -> Record | None:
    """What the event tells; nothing, if it came before or can't be read."""
    if isinstance(event.value, Unread):
        app.log.warning("passed over a record: %s", event.value.reason)
        return None
    # Faust takes values for models of its own.
    return cast("Record", event.value) if _seen.is_new(header(event.headers, ID_HEADER)) else None
