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
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from eventlog.readmodel.statuses import (
    FAILURES,
    RETENTION_AFTER_END_S,
    Ending,
    StatusMessage,
    compute_speed,
    decode_status,
    encode_status,
    format_duration,
    format_iso,
    last_message,
)
from projections.projection import Command
from projections.public_json import to_seconds

MILESTONES = (10, 25, 50, 75, 90)
"""Percent of a recording at which a message reports its progress; 100 is its end."""

LIVE_EVERY_S = 3.0
"""Audio between two messages of a live stream: often enough to show life, rarely enough to cost nothing."""

ROUNDING_S = 0.001
"""Both sides of a milestone are rounded to this, and one that is reached to the sample must not be missed by it."""

MAX_MESSAGES = 1_000
"""Some 50 minutes of a live stream; a client that comes back later has no use for older ones."""

LONGEST_ESTIMATE_MS = 365 * 24 * 3600 * 1000
"""An end further away than a year is no estimate, but a header that lies."""

MOST_KNOWN = 4_096
"""Last messages remembered, 4 MB: most runs' next facts come soon, and each read saved is a tenth of their cost. Half
of it must be more than twice the runs of a round."""

_MS = 1000


class LastStatus(NamedTuple):
    """The last message of a run; it holds all that the next fold needs of those before it."""

    number: int
    opened_ms: int
    message: StatusMessage


class Status:
    """A Stream of messages per run, published as they are made."""

    name = "status"
    linger_s = 0.5
    """A message comes every few seconds at most; half of one does no harm, and most facts then come several at once."""

    def __init__(self) -> None:
        """Remembers nothing yet."""
        # A fold is a function of run, position and facts, so the last message that one led to stays true, applied or
        # not. In two halves, the younger of which `reads` renews: none that it counted on is gone by the time of the
        # fold.
        self._known: dict[tuple[str, Position], LastStatus] = {}
        self._known_before: dict[tuple[str, Position], LastStatus] = {}

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """The last message, unless this is the beginning, or it is remembered."""
        key = pulled.keys.member, pulled.after
        if pulled.after == START or key in self._known:
            return ()
        if (last := self._known_before.get(key)) is not None:
            self._remember(key, last)
            return ()
        return (("XREVRANGE", pulled.keys.status, "+", "-", "COUNT", 1),)

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
        """Add and publish the messages that these facts give rise to."""
        key = pulled.keys.member, pulled.after
        known = self._known.get(key) or self._known_before.get(key)
        last = known or _decode_last(pulled.keys, answers[0] if answers else ())
        ops: list[Op] = []
        for _, fact in pulled.facts:
            if isinstance(fact, SessionOpened):
                last = last._replace(opened_ms=fact.opened_ms)
            for message in messages(last, fact):
                last = last._replace(number=last.number + 1, message=message)
                ops += _operations(pulled.keys, last, ends=isinstance(fact, SessionEnded))
        if pulled.facts:
            self._remember((pulled.keys.member, pulled.facts[-1][0]), last)
        return ops

    def _remember(self, key: tuple[str, Position], last: LastStatus) -> None:
        if len(self._known) >= MOST_KNOWN // 2:
            self._known, self._known_before = {}, self._known
        self._known[key] = last


def messages(last: LastStatus, fact: Fact) -> Iterator[StatusMessage]:
    """The messages that `fact` gives rise to after the `last` one."""
    before = last.message
    match fact:
        case SessionOpened(encoding=encoding):
            words = "Receiving the recording." if encoding == CONTAINER else "Listening; nothing was said yet."
            yield _processing(last, fact.opened_ms, progress=0 if encoding == CONTAINER else None, message=words)
        case SourceNoted():
            total = to_seconds(fact.duration_samples, fact.sample_rate_hz) or None
            length = format_duration(total) if total else "unknown length"
            words = f"Transcribing a recording of {length}."
            yield _processing(last, 0, progress=0 if total else None, duration_total=total, message=words)
        case UtteranceFinal():
            yield from _milestones(last, fact.committed_ms, to_seconds(fact.decided_samples, fact.sample_rate_hz))
        case ProgressNoted():
            yield from _milestones(last, fact.noted_ms, to_seconds(fact.processed_samples, fact.sample_rate_hz))
        case RunQuarantined():
            yield _quarantined(last, fact)
        case RunRedriven():
            yield _processing(last, fact.noted_ms, progress=before.progress, message="Taken up again.")
        case SessionEnded():
            audio_seconds = to_seconds(fact.audio_samples, fact.sample_rate_hz)
            if fact.reason not in FAILURES and before.duration_total:
                yield from _milestones(last, fact.ended_ms, audio_seconds)
            yield last_message(
                Ending(
                    session_id=before.session_id, reason=fact.reason, detail=fact.detail, utterances=fact.utterances,
                    audio_seconds=audio_seconds, opened_ms=last.opened_ms, ended_ms=_now_ms(last, fact.ended_ms),
                    progress=before.progress, duration_total=before.duration_total,
                )
            )  # fmt: skip


def _milestones(last: LastStatus, fact_ms: int, processed: float) -> Iterator[StatusMessage]:
    """Every milestone between the last message and `processed`; without a known end, one message now and then."""
    total = last.message.duration_total
    if total is None:
        if processed - last.message.duration_processed >= LIVE_EVERY_S:
            words = f"Listening: {format_duration(processed)} of audio transcribed so far."
            yield _processing(last, fact_ms, progress=None, duration_processed=processed, message=words)
        return
    for percent in MILESTONES:
        if (last.message.progress or 0) < percent <= 100 * (processed + ROUNDING_S) / total:
            words = f"{percent} % transcribed: {format_duration(processed)} of {format_duration(total)}."
            yield _processing(last, fact_ms, progress=percent, duration_processed=processed, message=words)


def _processing(
    last: LastStatus, fact_ms: int, *, progress: int | None, message: str, duration_processed: float | None = None,
    duration_total: float | None = None,
) -> StatusMessage:  # fmt: skip
    now_ms = _now_ms(last, fact_ms)
    processed = last.message.duration_processed if duration_processed is None else duration_processed
    total = duration_total or last.message.duration_total
    pace = compute_speed(processed, last.opened_ms, now_ms)
    left_ms = max(0, round((total - processed) / pace * _MS)) if total and pace else LONGEST_ESTIMATE_MS
    return msgspec.structs.replace(
        last.message, status="processing", progress=progress, message=message, timestamp=format_iso(now_ms),
        duration_processed=processed, duration_total=total, processing_speed=pace,
        estimated_completion=format_iso(now_ms + left_ms) if left_ms < LONGEST_ESTIMATE_MS else None,
    )  # fmt: skip


def _quarantined(last: LastStatus, fact: RunQuarantined) -> StatusMessage:
    words = f"Failed: it was quarantined, since {fact.reason}. The received audio is kept, and may be taken up again."
    return msgspec.structs.replace(
        last.message, status="failed", message=words, timestamp=format_iso(_now_ms(last, fact.noted_ms)),
        estimated_completion=None,
    )  # fmt: skip


def _now_ms(last: LastStatus, fact_ms: int) -> int:
    """The fact's own clock, which never goes back: several machines' clocks meet here, and some facts have none."""
    return max(fact_ms, round(datetime.fromisoformat(last.message.timestamp).timestamp() * _MS))


def _decode_last(keys: RunKeys, last_entry: Sequence[Any]) -> LastStatus:
    for entry_id, fields in last_entry:
        return LastStatus(Position.parse(entry_id).offset, int(fields[3]), decode_status(fields[1]))
    blank = StatusMessage(
        session_id=keys.session_id, status="processing", progress=None, message="", timestamp=format_iso(0),
        duration_processed=0.0, duration_total=None, estimated_completion=None, processing_speed=None,
    )  # fmt: skip
    return LastStatus(0, 0, blank)


def _operations(keys: RunKeys, last: LastStatus, *, ends: bool) -> list[Op]:
    body, entry_id = encode_status(last.message), str(Position(last.number, 0))
    previous = str(Position(last.number - 1, 0))
    message = FeedMessage(FeedKind.STATUS, keys.member, entry_id, previous, body.decode())
    ops = [
        add(keys.status, entry_id, {"status": body, "opened_ms": last.opened_ms}, most=MAX_MESSAGES),
        publish(keys.partition.feed_channel, encode_message(message)),
    ]
    if keys.run == LIVE_RUN:
        ops.append(announce(status_channel(keys.session_id), body))
    if ends and last.message.is_last:  # a quarantined run may be redriven, and continues from there
        ops.append(expire(keys.status, RETENTION_AFTER_END_S))
    return ops
