"""An example of a subscriber, to run and to copy: ``faust -A projections.kafka.subscriber worker``.

It reads both topics and prints, per minute, each speaker's talk time and pace, and each finished recording. Faust's own
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
    UnreadableRecord,
    read_header,
)
from projections.kafka.talk_time import RecentIds, TalkTime, add_utterance, format_line, no_talk
from projections.kafka.topics import typed_topic

WINDOW_S = 60.0
"""Rates are printed per minute."""

RETENTION_S = 3600.0
"""Windows are kept for an hour, for utterances that come late."""

MOST_IDS = 100_000
"""Ids of events that may come again: some megabytes, and minutes of thousands of sessions."""

app = faust.App(
    "stenolog-subscriber", broker=os.environ.get("STENOLOG_KAFKA_URL", "kafka://localhost:9092"),
    # Faust's web server would listen on every address, without authentication; `--without-web` leaves it out.
    web_enabled=False, web_bind="localhost",
)  # fmt: skip
talk_times = app.Table("speaking", default=no_talk, key_type=str).tumbling(WINDOW_S, expires=RETENTION_S)
"""Talk time per session and speaker, in windows of the records' own time: when the utterance was final."""

_seen = RecentIds(MOST_IDS)
_print = partial(click.echo, file=sys.stdout)  # bound now: a worker makes warnings of later prints


@app.agent(typed_topic(app, TRANSCRIPTS))
async def count_speech(stream: StreamT[Record | UnreadableRecord]) -> None:
    """Counts each utterance once and prints the speaker's minute so far."""
    async for event in stream.events():
        match _new_record(event):
            case TranscriptUtterance() as utterance:
                key = f"{utterance.session_id} {utterance.speaker}"
                talk: TalkTime = add_utterance(talk_times[key].value(), utterance)
                talk_times[key] = talk
                _print(format_line(utterance.session_id, utterance.speaker, talk))
            case TranscriptEnded() as ended:
                _print(f"{ended.session_id} ended ({ended.reason}) after {ended.audio_seconds:.1f} s")


@app.agent(typed_topic(app, BATCHES))
async def report_recordings(stream: StreamT[Record | UnreadableRecord]) -> None:
    """Prints each finished recording once."""
    async for event in stream.events():
        match _new_record(event):
            case BatchProcessingCompleted() as batch:
                _print(f"{batch.interaction_id} is transcribed: {len(batch.data.raw_transcript.split())} words")
            case BatchProcessingFailed() as failed:
                _print(f"{failed.interaction_id} failed: {failed.data.reason}")


def _new_record(event: EventT[Record | UnreadableRecord]) -> Record | None:
    """The event's record; None if it came before or can't be read."""
    if isinstance(event.value, UnreadableRecord):
        app.log.warning("record skipped: %s", event.value.reason)
        return None
    # Faust takes values for models of its own.
    return cast("Record", event.value) if _seen.add(read_header(event.headers, ID_HEADER)) else None
