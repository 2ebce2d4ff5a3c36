"""The taker's side of shared recognition: takes others' utterances while its own recogniser has room."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from eventlog.keys import RunKeys
from eventlog.work.shared_recognition import Reference, SharedRecognition, Taken
from processor.metrics import WorkerMetrics
from processor.recognisers import Clip, RecogniserError, Recognition
from processor.recognition_job import Job, RecordedUtterance
from processor.recognition_queue import RecognitionQueue

log = logging.getLogger(__name__)

ASK_S = 1.0
"""Between two looks for work without a wake-up; abandoned utterances are found by these."""

MAX_LEASES = 6
"""A recognition that has not ended after so many will not: that is two minutes for an utterance of 20 s."""

RENEWALS_PER_LEASE = 3
"""As for claims: two may fail."""


@dataclass(slots=True, eq=False)
class _Work:
    """An utterance that this worker took.

    Attributes:
        taken: Its entry on the stream.
        is_own: Whether this worker offered it itself.
        taken_at: Monotonic time in seconds.
        result: The outcome for another worker, to which no error is reported.
        is_expired: Whether other workers may take it, since it took too long here.
        job: Its job here.
    """

    taken: Taken
    is_own: bool
    taken_at: float = field(default_factory=time.monotonic)
    result: Recognition | RecogniserError | None = None
    is_expired: bool = False
    job: Job | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has an outcome."""
        return self.job is not None and self.job.is_settled


class OwnOffers(Protocol):
    """The offers of this very worker."""

    def claim_own(self, taken: Taken) -> Job | None:
        """The job of a taken utterance if this worker offered it."""
        ...

    def disown(self, taken: Taken) -> None:
        """Wait for another worker's result of an own utterance that this worker took."""
        ...


class Taker:
    """Takes, recognises and reports results; one round at a time, each step may be repeated."""

    def __init__(
        self, shared: SharedRecognition, queue: RecognitionQueue, own_offers: OwnOffers, metrics: WorkerMetrics
    ) -> None:
        """Recognise by `queue`; an utterance of `own_offers` that no other worker took may come back here."""
        self._shared = shared
        self._queue = queue
        self._own_offers = own_offers
        self._metrics = metrics
        self._lease_s = shared.lease_ms / 1000
        self._works: dict[str, _Work] = {}
        self._ask_at = 0.0
        self._renew_at = 0.0

    def wake(self) -> None:
        """Look for work in the next round."""
        self._ask_at = 0.0

    async def do_round(self) -> None:
        """Report results, renew leases, and take utterances once.

        Raises:
            LogUnavailableError: if Redis cannot be reached; the next round continues from there.
        """
        await self._report_results()
        await self._renew()
        await self._take()

    async def release(self) -> None:
        """Report the results that exist, and return the other utterances to the stream."""
        await self._report_results()
        works, self._works = self._works, {}
        await self._shared.release([entry_id for entry_id, work in works.items() if not work.is_own])

    async def _report_results(self) -> None:
        """Write results for their holders, then remove the entries from the stream: in this order nothing is lost."""
        done = {entry_id: work for entry_id, work in self._works.items() if work.is_done}
        if not done:
            return
        keys: dict[str, RunKeys] = {}
        results: dict[RunKeys, list[tuple[Reference, bytes]]] = {}
        for work in done.values():
            if isinstance(work.result, Recognition):
                of_run = keys.setdefault(work.taken.keys.member, work.taken.keys)
                results.setdefault(of_run, []).append((work.taken.reference, msgspec.json.encode(work.result)))
        unanswered = {one.member for one in await self._shared.store_results(results)}
        settled = [
            entry_id for entry_id, work in done.items() if work.is_own or work.taken.keys.member not in unanswered
        ]
        await self._shared.remove(settled)
        self._metrics.recognised_for_others.inc(sum(map(len, results.values())))
        for entry_id in settled:
            del self._works[entry_id]

    async def _renew(self) -> None:
        """Renew the leases of taken utterances, and give up those that have waited too long behind others here."""
        now = time.monotonic()
        if now < self._renew_at or not self._works:
            return
        self._renew_at = now + self._lease_s / RENEWALS_PER_LEASE
        waiting = set(map(id, self._queue.recorded))
        for entry_id, work in list(self._works.items()):
            if now - work.taken_at > self._lease_s * (1 if id(work.job) in waiting else MAX_LEASES):
                work.is_expired = True
                self._own_offers.disown(work.taken)
                del self._works[entry_id]
        await self._shared.renew(list(self._works))

    async def _take(self) -> None:
        now, room = time.monotonic(), self._queue.room_for_recorded
        if room <= 0 or now < self._ask_at:
            return
        self._ask_at = now + ASK_S  # unless it takes some
        taken = await self._shared.take(room)
        if not taken:
            return
        self._ask_at = 0.0
        others = [one for one in taken if not self._take_own(one)]
        fetched = await self._shared.read_audio(others)
        await self._shared.remove(fetched.stale)
        # An utterance whose audio could not be fetched now comes back after the lease, here or elsewhere.
        works = [self._work(one, pcm) for one in others if (pcm := fetched.pcm.get(one.entry_id))]
        self._queue.submit(*(work.job for work in works if work.job))
        self._metrics.taken.inc(len(works))

    def _take_own(self, taken: Taken) -> bool:
        job = self._own_offers.claim_own(taken)
        if job is None:
            return False
        if job.recorded:
            job.recorded.may_be_offered = False
        self._works[taken.entry_id] = _Work(taken, is_own=True, job=job)
        self._queue.submit(job)
        return True

    def _work(self, taken: Taken, pcm: bytes) -> _Work:
        work = _Work(taken, is_own=False)
        reference = taken.reference

        def keep(result: Recognition | RecogniserError) -> None:
            work.result = result
            if isinstance(result, RecogniserError):  # its holder gets the same error, and decides
                log.info("shared utterance not recognised; its holder retries", extra={"run": taken.keys.member})

        clip = Clip(
            pcm=pcm, sample_rate_hz=reference.sample_rate_hz, language=reference.language,
            voiced_ms=reference.voiced_ms, model=reference.model, terms=reference.terms, prompt=reference.prompt,
        )  # fmt: skip
        recorded = RecordedUtterance(None, reference, may_be_offered=False)
        work.job = Job(clip, keep, lambda: work.is_expired, recorded=recorded)
        self._works[taken.entry_id] = work
        return work
