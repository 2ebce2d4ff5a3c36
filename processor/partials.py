"""Provisional texts of open utterances: best effort, published, never logged."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

import msgspec
from msgspec import structs

from eventlog.log import LogUnavailableError
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from eventlog.redis.server import Server
from processor.active_runs import ActiveRun, ActiveRuns
from processor.early_finals import EarlyFinals
from processor.facts import published_partial
from processor.partial_budget import PartialBudget
from processor.provisional_text import Hypothesis, ProvisionalText
from processor.recognisers import RecogniserError, Recognition
from processor.recognition_job import Job
from processor.recognition_queue import RecognitionQueue
from processor.settings import WorkerSettings
from processor.speech import OpenSpeech, Utterance

log = logging.getLogger(__name__)

LOOK_S = 0.05
"""Between two rounds of partials: short against the interval, long against the cost of a thousand runs."""

LOOKING_SHARE = 0.04
"""Of the worker's loop, for looks: with a thousand talkers one takes 4 ms, which leaves ten a second, not twenty."""

GATHER_S = 0.25
"""So long a partial waits for others to share its call, and others are taken along so long before they are due."""

LEFT_TO_EARLY_MS = 150
"""Pause from which an utterance is left to its early final: longer than a stop consonant's closure."""

ALONE = 2
"""Open utterances up to which none waits for others: they would hardly meet."""


STALLED_S = 1.0
"""Without audio for so long a client may have stopped: half of the default pause after which an utterance ends so, and
longer than networks hold frames back."""


@dataclass(slots=True, eq=False)
class _OpenText:
    """The provisional text of one channel's open utterance.

    Attributes:
        run: Its run.
        channel: Its channel.
        text: The text so far.
        due_at: Monotonic time in seconds from which the next partial may be made.
        wanted_since: Since when one is due; infinity while none is.
        is_waiting: Whether one is being recognised.
        early_voiced_ms: Speech that it had when it was last recognised as an early final: that is once per pause.
        passed_voiced_ms: Speech that it had in the last pause that was not tried.
        speech: The utterance at the last look.
    """

    run: ActiveRun
    channel: int
    text: ProvisionalText
    due_at: float = 0.0
    wanted_since: float = float("inf")
    is_waiting: bool = False
    early_voiced_ms: int = 0
    passed_voiced_ms: int = 0
    speech: OpenSpeech = field(default=OpenSpeech(0, 0, 0, 0))


class Partials:
    """Recognises open utterances now and then while the recogniser has room, and publishes the texts."""

    def __init__(
        self, server: Server, runs: ActiveRuns, recognition: RecognitionQueue, settings: WorkerSettings,
        early: EarlyFinals,
    ) -> None:  # fmt: skip
        """Publish through `server`; texts of `early` finals are published too."""
        self._server = server
        self._runs = runs
        self._recognition = recognition
        self._early = early
        self._interval_ms = settings.partial_interval_ms
        self._per_s = settings.partials_per_s
        self._budget = PartialBudget(recognition.load, recognition.max_parallel)
        self._allowed = 0.0
        self._looked_at = time.monotonic()
        recognition.on_idle = self._look_again
        self._texts: dict[tuple[ActiveRun, int], _OpenText] = {}
        self._messages: list[tuple[str, bytes]] = []

    async def run(self) -> None:
        """Submit and publish until cancelled."""
        while True:
            started = time.monotonic()
            self._look()
            pause_s = (time.monotonic() - started) / LOOKING_SHARE
            await self._publish()
            await asyncio.sleep(max(LOOK_S, pause_s))

    def _look(self) -> None:
        """Begin the early finals and partials that are due."""
        now = time.monotonic()
        self._texts = self._find_open()
        self._early.forget(self._runs.__contains__)
        early_ms, may_begin_early = self._early.early_final_ms, self._early.may_begin
        for one in self._texts.values():
            speech = one.speech
            is_stalled = now - one.run.pace.read_at_s >= STALLED_S
            is_early = is_stalled or speech.pause_ms >= early_ms
            if may_begin_early and is_early and one.early_voiced_ms != speech.voiced_ms:
                self._begin_early(one, is_stalled=is_stalled)
        self._submit_due(now, may_begin_early=may_begin_early)

    def _look_again(self) -> None:
        """Begin the partials that are due by the last look, now that a call has ended."""
        self._submit_due(time.monotonic(), may_begin_early=self._early.may_begin)

    def _find_open(self) -> dict[tuple[ActiveRun, int], _OpenText]:
        """The open utterances of live sessions that keep up, each with its text so far."""
        found: dict[tuple[ActiveRun, int], _OpenText] = {}
        for run in self._runs:
            # A recording's finals, and those of a session that is behind, reach its open utterance long after.
            if not run.timeline.is_speaking or run.is_behind or run.is_recorded:
                continue
            for channel, speech in run.timeline.open_speech():
                known = self._texts.get((run, channel))
                if known is None or known.text.start_samples != speech.start_samples:
                    known = _OpenText(run, channel, ProvisionalText(speech.start_samples))
                known.speech = speech
                found[run, channel] = known
        return found

    def _submit_due(self, now: float, *, may_begin_early: bool) -> None:
        for one in self._texts.values():
            if not self._is_due(one, now, may_begin_early=may_begin_early):
                one.wanted_since = float("inf")
            elif one.wanted_since > now:
                one.wanted_since = now
        # Only a fraction of the rate carries over to the next round: unused room allows no burst.
        self._allowed = self._per_s * min(1.0, now - self._looked_at) + self._allowed % 1
        self._looked_at = now
        wanted_since = min((one.wanted_since for one in self._texts.values()), default=float("inf"))
        if wanted_since > now or (len(self._texts) > ALONE and now - wanted_since < GATHER_S):
            return
        waiting = sum(one.is_waiting for one in self._texts.values())
        budget = self._budget.room(len(self._texts), waiting)
        room = min(int(self._allowed), self._recognition.room_for_partials, budget)
        if room <= 0:
            return
        due = [
            one for one in self._texts.values()
            if self._is_due(one, now + GATHER_S, may_begin_early=may_begin_early)
        ]  # fmt: skip
        # The text that waited longest comes first; under load the partials of all sessions thin out alike.
        due.sort(key=lambda one: one.due_at)
        jobs = [job for one in due[:room] if (job := self._job(one, now))]
        self._recognition.submit(*jobs)

    def _is_due(self, one: _OpenText, now: float, *, may_begin_early: bool) -> bool:
        if one.is_waiting:
            return False
        speech = one.speech
        has_early = one.early_voiced_ms == speech.voiced_ms or (
            may_begin_early and one.passed_voiced_ms != speech.voiced_ms
        )
        if has_early and speech.pause_ms >= LEFT_TO_EARLY_MS:
            return False  # it says the same, and more
        return one.text.has_pause(speech) or (now >= one.due_at and one.text.has_news(speech))

    def _begin_early(self, one: _OpenText, *, is_stalled: bool) -> None:
        utterance = one.run.timeline.open_utterance(one.channel)
        if utterance is None or (utterance.end_samples >= utterance.decided_samples and not is_stalled):
            return  # its post-roll is not complete: its final would have more samples, unless a pause ends it here
        if not is_stalled:
            if one.passed_voiced_ms == utterance.voiced_ms:
                return
            if not self._early.takes_next(one.run, one.channel):
                one.passed_voiced_ms = utterance.voiced_ms
                return
        one.early_voiced_ms = utterance.voiced_ms

        def on_text(result: Recognition) -> None:
            self._post(one, utterance, one.text.add_whole(utterance, result.text, result.confidence))

        self._early.begin(one.run, one.channel, utterance, on_text)

    def _job(self, one: _OpenText, now: float) -> Job | None:
        run, text = one.run, one.text
        utterance = run.timeline.open_utterance(one.channel)
        if utterance is None or utterance.start_samples != text.start_samples:
            return None  # it has ended since the last look
        piece = text.next_piece(utterance, run.start.sample_rate_hz)
        text.note_recognised(piece, utterance)
        interval_ms = (utterance.options or run.start).partial_interval_ms or self._interval_ms
        one.due_at = now if piece.voiced_ms is None else now + interval_ms / 1000
        one.is_waiting = True

        def on_result(result: Recognition | RecogniserError) -> None:
            one.is_waiting = False
            self._budget.note_done(job.seconds)
            if isinstance(result, Recognition):
                self._post(one, utterance, text.add(piece, utterance, result.text, result.confidence))

        first, last = (2 * (at - utterance.start_samples) for at in (piece.start_samples, piece.end_samples))
        clip = structs.replace(
            run.clip(utterance, partial=True), pcm=utterance.pcm[first:last], voiced_ms=piece.voiced_ms
        )
        job = Job(
            clip, on_result, lambda: not _is_open(one), tenant=run.start.tenant_id, session=run.claim.keys.member
        )
        return job

    def _post(self, one: _OpenText, utterance: Utterance, found: Hypothesis | None) -> None:
        """Publish a text of `utterance` soon, if that is still open: it comes after all facts so far."""
        run, rate_hz = one.run, one.run.start.sample_rate_hz
        # Without text, outdated, or of a lost run: best effort means that no partial is published.
        if found is None or not found.text or not _is_open(one):
            return
        text, stable = published_partial(run.start, found.text, found.stable)
        body = {
            "type": "partial",
            "utterance": run.checkpoint.utterance + run.waiting_utterances,
            "text": text,
            "stable": stable,
            "start": round(utterance.start_samples / rate_hz, 3),
            "end": round(utterance.decided_samples / rate_hz, 3),
            "channel": one.channel,
        }
        keys = run.claim.keys
        encoded = msgspec.json.encode(body).decode()
        message = FeedMessage(FeedKind.PARTIAL, keys.member, str(run.last_fact), "", encoded)
        self._messages.append((keys.partition.feed_channel, encode_message(message)))

    async def _publish(self) -> None:
        messages, self._messages = self._messages, []
        try:
            await self._server.execute_many([("SPUBLISH", channel, text) for channel, text in messages])
        except LogUnavailableError:
            log.info("partials dropped: log unavailable", extra={"partials": len(messages)})


def _is_open(one: _OpenText) -> bool:
    """Whether its run is held and its utterance has not ended."""
    return one.run.is_held and any(
        (channel, speech.start_samples) == (one.channel, one.text.start_samples)
        for channel, speech in one.run.timeline.open_speech()
    )
