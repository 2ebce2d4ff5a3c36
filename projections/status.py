"""`status`: how far each run is, in messages that a person understands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from eventlog.events import (
    CONTAINER,
    Fact,
    ProgressNoted,
    RunQuarantined,
    RunRedriven,
    SessionEnded,
    SessionOpened,
    SourceNoted,
    UtteranceFinal,
)
from eventlog.keys import LIVE_RUN, RunKeys, status_channel
from eventlog.positions import START, Position
from eventlog.projection.operations import Op, add, announce, expire, publish
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from eventlog.readmodel.statuses import (
    FAILURES,
    LATE_COMERS_S,
    Ending,
    StatusMessage,
    decode_status,
    encode_status,
    in_words,
    iso,
    last_message,
    speed,
)
from projections.projection import Batch, Command
from projections.public_json import seconds

MILESTONES = (10, 25, 50, 75, 90)
"""Percent of a recording at which it is told how far it is; 100 is its end."""

LIVE_EVERY_S = 3.0
"""Audio between two messages of a live stream: often enough to show life, rarely enough to cost nothing."""

ROUNDING_S = 0.001
"""Both sides of a milestone are rounded to this, and one that is reached to the sample must not be missed by it."""

MAX_MESSAGES = 1_000
"""Some 50 minutes of a live stream; who comes back later has no use for older ones."""

LONGEST_ESTIMATE_MS = 365 * 24 * 3600 * 1000
"""An end further away than a year is no estimate, but a header that lies."""

MOST_KNOWN = 4_096
"""Last messages remembered, 4 MB: most runs' next facts come soon, and each read saved is a tenth of their cost. Half
of it must be more than twice the runs of a round."""

_MS = 1000


class Told(NamedTuple):
    """What the messages so far say; kept in the last of them, so that a fold can go on from there."""

    number: int
    """Of the last message."""
    opened_ms: int
    last: StatusMessage


class Status:
    """A Stream of messages per run, published as they are made."""

    name = "status"
    gather_s = 0.5
    """Told every few seconds at most; nobody minds half of one, and most facts then come several at once."""

    def __init__(self) -> None:
        """Remembers nothing yet."""
        # A fold is a function of run, position and facts, so what one led to stays true, applied or not. In two
        # halves, the younger of which `reads` renews: none that it counted on is gone by the time of the fold.
        self._known: dict[tuple[str, Position], Told] = {}
        self._known_before: dict[tuple[str, Position], Told] = {}

    def reads(self, batch: Batch) -> Sequence[Command]:
        """The last message, unless this is the beginning, or it is remembered."""
        place = batch.keys.member, batch.after
        if batch.after == START or place in self._known:
            return ()
        if (told := self._known_before.get(place)) is not None:
            self._remember(place, told)
            return ()
        return (("XREVRANGE", batch.keys.status, "+", "-", "COUNT", 1),)

    def fold(self, batch: Batch, answers: Sequence[Any]) -> list[Op]:
        """Add and publish what these facts give reason to tell."""
        place = batch.keys.member, batch.after
        known = self._known.get(place) or self._known_before.get(place)
        told = known or _told(batch.keys, answers[0] if answers else ())
        ops: list[Op] = []
        for _, fact in batch.facts:
            if isinstance(fact, SessionOpened):
                told = told._replace(opened_ms=fact.opened_ms)
            for message in messages(told, fact):
                told = told._replace(number=told.number + 1, last=message)
                ops += _telling(batch.keys, told, ends=isinstance(fact, SessionEnded))
        if batch.facts:
            self._remember((batch.keys.member, batch.facts[-1][0]), told)
        return ops

    def _remember(self, place: tuple[str, Position], told: Told) -> None:
        if len(self._known) >= MOST_KNOWN // 2:
            self._known, self._known_before = {}, self._known
        self._known[place] = told


def messages(told: Told, fact: Fact) -> Iterator[StatusMessage]:
    """What `fact` gives reason to tell after what was `told`."""
    last = told.last
    match fact:
        case SessionOpened(encoding=encoding):
            words = "Receiving the recording." if encoding == CONTAINER else "Listening; nothing was said yet."
            yield _processing(told, fact.opened_ms, progress=0 if encoding == CONTAINER else None, message=words)
        case SourceNoted():
            total = seconds(fact.duration_samples, fact.sample_rate_hz) or None
            length = in_words(total) if total else "unknown length"
            words = f"Transcribing a recording of {length}."
            yield _processing(told, 0, progress=0 if total else None, duration_total=total, message=words)
        case UtteranceFinal():
            yield from _further(told, fact.committed_ms, seconds(fact.decided_samples, fact.sample_rate_hz))
        case ProgressNoted():
            yield from _further(told, fact.noted_ms, seconds(fact.processed_samples, fact.sample_rate_hz))
        case RunQuarantined():
            yield _set_aside(told, fact)
        case RunRedriven():
            yield _processing(told, fact.noted_ms, progress=last.progress, message="Taken up again.")
        case SessionEnded():
            audio_seconds = seconds(fact.audio_samples, fact.sample_rate_hz)
            if fact.reason not in FAILURES and last.duration_total:
                yield from _further(told, fact.ended_ms, audio_seconds)
            yield last_message(
                Ending(
                    session_id=last.session_id, reason=fact.reason, detail=fact.detail, utterances=fact.utterances,
                    audio_seconds=audio_seconds, opened_ms=told.opened_ms, ended_ms=_now(told, fact.ended_ms),
                    progress=last.progress, duration_total=last.duration_total,
                )
            )  # fmt: skip


def _further(told: Told, fact_ms: int, processed: float) -> Iterator[StatusMessage]:
    """Every milestone between the last message and `processed`; without a known end, one message now and then."""
    last, total = told.last, told.last.duration_total
    if total is None:
        if processed - last.duration_processed >= LIVE_EVERY_S:
            words = f"Listening: {in_words(processed)} of audio transcribed so far."
            yield _processing(told, fact_ms, progress=None, duration_processed=processed, message=words)
        return
    for percent in MILESTONES:
        if (last.progress or 0) < percent <= 100 * (processed + ROUNDING_S) / total:
            words = f"{percent} % transcribed: {in_words(processed)} of {in_words(total)}."
            yield _processing(told, fact_ms, progress=percent, duration_processed=processed, message=words)


def _processing(
    told: Told, fact_ms: int, *, progress: int | None, message: str, duration_processed: float | None = None,
    duration_total: float | None = None,
) -> StatusMessage:  # fmt: skip
    now_ms = _now(told, fact_ms)
    processed = told.last.duration_processed if duration_processed is None else duration_processed
    total = duration_total or told.last.duration_total
    pace = speed(processed, told.opened_ms, now_ms)
    left_ms = max(0, round((total - processed) / pace * _MS)) if total and pace else LONGEST_ESTIMATE_MS
    return msgspec.structs.replace(
        told.last, status="processing", progress=progress, message=message, timestamp=iso(now_ms),
        duration_processed=processed, duration_total=total, processing_speed=pace,
        estimated_completion=iso(now_ms + left_ms) if left_ms < LONGEST_ESTIMATE_MS else None,
    )  # fmt: skip


def _set_aside(told: Told, fact: RunQuarantined) -> StatusMessage:
    words = f"Failed: it was set aside, since {fact.reason}. What was received is kept, and may be taken up again."
    return msgspec.structs.replace(
        told.last, status="failed", message=words, timestamp=iso(_now(told, fact.noted_ms)), estimated_completion=None,
    )  # fmt: skip


def _now(told: Told, fact_ms: int) -> int:
    """The fact's own clock, which never goes back: several machines' clocks meet here, and some facts have none."""
    return max(fact_ms, round(datetime.fromisoformat(told.last.timestamp).timestamp() * _MS))


def _told(keys: RunKeys, last_entry: Sequence[Any]) -> Told:
    for entry_id, fields in last_entry:
        return Told(Position.parse(entry_id).offset, int(fields[3]), decode_status(fields[1]))
    nothing = StatusMessage(
        session_id=keys.session_id, status="processing", progress=None, message="", timestamp=iso(0),
        duration_processed=0.0, duration_total=None, estimated_completion=None, processing_speed=None,
    )  # fmt: skip
    return Told(0, 0, nothing)


def _telling(keys: RunKeys, told: Told, *, ends: bool) -> list[Op]:
    body, entry_id = encode_status(told.last), str(Position(told.number, 0))
    previous = str(Position(told.number - 1, 0))
    message = FeedMessage(FeedKind.STATUS, keys.member, entry_id, previous, body.decode())
    ops = [
        add(keys.status, entry_id, {"status": body, "opened_ms": told.opened_ms}, most=MAX_MESSAGES),
        publish(keys.partition.feed_channel, encode_message(message)),
    ]
    if keys.run == LIVE_RUN:
        ops.append(announce(status_channel(keys.session_id), body))
    if ends and told.last.is_last:  # a run that is set aside may be taken up again, and goes on from there
        ops.append(expire(keys.status, LATE_COMERS_S))
    return ops
