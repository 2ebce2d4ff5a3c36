"""The taker's side of shared recognition: takes utterances that others offer while its own recogniser has room."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from processor.recognisers import Clip, RecogniserError, Recognition
from processor.recognition_queue import Job, Recorded

if TYPE_CHECKING:
    from eventlog.keys import RunKeys
    from eventlog.work.shared_recognition import Reference, SharedRecognition, Taken
    from processor.metrics import WorkerMetrics
    from processor.recognition_queue import RecognitionQueue
    from processor.sharing.offerer import Offerer

log = logging.getLogger(__name__)

ASK_S = 1.0
"""Between two looks for work that nobody rang for; what was abandoned is found by these."""

LEASES_MOST = 6
"""After so many, a recognition that doesn't end won't: two minutes of an utterance of 20 s."""

RENEWALS_PER_LEASE = 3
"""As for claims: two may fail."""


@dataclass(slots=True, eq=False)
class _Work:
    """An utterance that this worker took.

    Attributes:
        taken: What it is on the stream.
        is_own: Whether this worker offered it itself.
        taken_at: Monotonic time in seconds.
        result: What came of it, if it is another worker's; that one wants no errors.
        is_expired: Whether others may take it, for it took too long here.
    """

    taken: Taken
    is_own: bool
    taken_at: float = field(default_factory=time.monotonic)
    result: Recognition | RecogniserError | None = None
    is_expired: bool = False
    job: Job | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is an outcome."""
        return self.job is not None and self.job.settled


class Taker:
    """Takes, recognises and hands in; one round at a time, each step may be repeated."""

    def __init__(
        self, recognising: SharedRecognition, queue: RecognitionQueue, offering: Offerer, metrics: WorkerMetrics
    ) -> None:
        """Recognise by `queue`; what `offering` offered and nobody took comes back here."""
        self._recognising = recognising
        self._queue = queue
        self._offering = offering
        self._metrics = metrics
        self._lease_s = recognising.lease_ms / 1000
        self._works: dict[str, _Work] = {}
        self._ask_at = 0.0
        self._renew_at = 0.0

    def ring(self) -> None:
        """Look for work in the next round."""
        self._ask_at = 0.0

    async def round(self) -> None:
        """Look at all there is once.

        Raises:
            LogUnavailableError: if Redis can't be reached; the next round goes on from there.
        """
        await self._hand_in()
        await self._renew()
        await self._take()

    async def release(self) -> None:
        """Hand in what is done, and let others have the rest."""
        await self._hand_in()
        works, self._works = self._works, {}
        await self._recognising.release([entry_id for entry_id, work in works.items() if not work.is_own])

    async def _hand_in(self) -> None:
        """Leave what is recognised for its holder, then take it off the stream: in this order nothing is lost."""
        done = {entry_id: work for entry_id, work in self._works.items() if work.is_done}
        if not done:
            return
        keys: dict[str, RunKeys] = {}
        results: dict[RunKeys, list[tuple[Reference, bytes]]] = {}
        for work in done.values():
            if isinstance(work.result, Recognition):
                of_run = keys.setdefault(work.taken.keys.member, work.taken.keys)
                results.setdefault(of_run, []).append((work.taken.reference, msgspec.json.encode(work.result)))
        unsure = {one.member for one in await self._recognising.store_results(results)}
        settled = [entry_id for entry_id, work in done.items() if work.is_own or work.taken.keys.member not in unsure]
        await self._recognising.remove(settled)
        self._metrics.recognised_for_others.inc(sum(map(len, results.values())))
        for entry_id in settled:
            del self._works[entry_id]

    async def _renew(self) -> None:
        """Keep what is being recognised, and let go of what waits for too long behind what comes first here."""
        now = time.monotonic()
        if now < self._renew_at or not self._works:
            return
        self._renew_at = now + self._lease_s / RENEWALS_PER_LEASE
        waiting = set(map(id, self._queue.recorded))
        for entry_id, work in list(self._works.items()):
            if now - work.taken_at > self._lease_s * (1 if id(work.job) in waiting else LEASES_MOST):
                work.is_expired = True
                self._offering.disown(work.taken)
                del self._works[entry_id]
        await self._recognising.renew(list(self._works))

    async def _take(self) -> None:
        now, room = time.monotonic(), self._queue.room_for_recorded
        if room <= 0 or now < self._ask_at:
            return
        self._ask_at = now + ASK_S  # unless there is something
        taken = await self._recognising.take(room)
        if not taken:
            return
        self._ask_at = 0.0
        others = [one for one in taken if not self._take_own(one)]
        fetched = await self._recognising.read_audio(others)
        await self._recognising.remove(fetched.stale)
        # What could not be fetched now comes back after the lease, here or elsewhere.
        works = [self._work(one, pcm) for one in others if (pcm := fetched.pcm.get(one.entry_id))]
        self._queue.submit(*(work.job for work in works if work.job))
        self._metrics.taken.inc(len(works))

    def _take_own(self, taken: Taken) -> bool:
        job = self._offering.own(taken)
        if job is None:
            return False
        if job.recorded:
            job.recorded.may_leave = False
        self._works[taken.entry_id] = _Work(taken, is_own=True, job=job)
        self._queue.submit(job)
        return True

    def _work(self, taken: Taken, pcm: bytes) -> _Work:
        work = _Work(taken, is_own=False)
        reference = taken.reference

        def done(result: Recognition | RecogniserError) -> None:
            work.result = result
            if isinstance(result, RecogniserError):  # its holder hears the same, and judges
                log.info("an utterance of another worker's can't be recognised", extra={"run": taken.keys.member})

        clip = Clip(
            pcm=pcm, sample_rate_hz=reference.sample_rate_hz, language=reference.language,
            voiced_ms=reference.voiced_ms,
        )  # fmt: skip
        recorded = Recorded(None, reference, may_leave=False)
        work.job = Job(clip, done, lambda: not work.is_expired, recorded=recorded)
        self._works[taken.entry_id] = work
        return work
