"""The holder's side of shared recognition: offers what its own recogniser has no time for, and collects results."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from processor.recognisers import Recognition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventlog.keys import RunKeys
    from eventlog.work.shared_recognition import Reference, SharedRecognition, Taken
    from processor.active_run import ActiveRun
    from processor.metrics import WorkerMetrics
    from processor.recognition_queue import Job, RecognitionQueue

log = logging.getLogger(__name__)

ASK_S = 1.0
"""Between two offers where nobody took the last one: a worker alone asks this often whether it still is."""

TIDY_S = 1.0
"""Between two looks for offers that nobody will answer: takers die seldom, and a lease passes before it shows."""

OFFERS_PER_ROUND = 64
"""In one call: some 60 µs of Redis's time."""

_recognition = msgspec.json.Decoder(Recognition)


@dataclass(slots=True)
class _Offer:
    """An utterance that waits for a result.

    Attributes:
        job: What it is here.
        entry_id: What it is on the stream.
        is_ours: Whether this worker took it itself.
    """

    job: Job
    entry_id: str
    is_ours: bool = False


@dataclass(slots=True)
class _SharedRun:
    """A run of which utterances were shared.

    Attributes:
        run: Which one.
        offers: By the utterance's name.
        found: Results left by an earlier holder's takers, by name, for utterances not met yet.
        taken: Results that can be forgotten once they are committed.
    """

    run: ActiveRun
    offers: dict[str, _Offer] = field(default_factory=dict)
    found: dict[str, bytes] = field(default_factory=dict)
    taken: list[Reference] = field(default_factory=list)

    @property
    def keys(self) -> RunKeys:
        """The run's keys."""
        return self.run.claim.keys

    def committed(self) -> list[str]:
        """Names of results taken that are in the log by now, each told once."""
        boundaries = self.run.checkpoint.boundaries
        passed = [one for one in self.taken if one.is_behind(boundaries)]
        self.taken = [one for one in self.taken if not one.is_behind(boundaries)]
        return [one.name for one in passed]


class Offerer:
    """Offers utterances, and hands results to their jobs; one round at a time, each step may be repeated."""

    def __init__(self, recognising: SharedRecognition, queue: RecognitionQueue, metrics: WorkerMetrics) -> None:
        """Offer what waits in `queue`."""
        self._recognising = recognising
        self._queue = queue
        self._metrics = metrics
        self._runs: dict[str, _SharedRun] = {}
        self._ask_at = 0.0
        self._tidy_at = 0.0

    @property
    def waiting(self) -> int:
        """How many utterances wait for a result from somewhere."""
        return sum(len(run.offers) for run in self._runs.values())

    def own(self, taken: Taken) -> Job | None:
        """The job of an utterance that was taken off the stream, if this very worker offered it: samples and all."""
        run = self._runs.get(taken.keys.member)
        offer = run.offers.get(taken.reference.name) if run else None
        if offer is None or offer.job.settled:
            return None
        offer.is_ours, offer.entry_id = True, taken.entry_id
        return offer.job

    def disown(self, taken: Taken) -> None:
        """Wait for others with what this worker took and didn't come to."""
        run = self._runs.get(taken.keys.member)
        if run and (offer := run.offers.get(taken.reference.name)):
            offer.is_ours = False

    async def round(self) -> None:
        """Look at all there is once.

        Raises:
            LogUnavailableError: if Redis can't be reached; the next round goes on from there.
        """
        await self._let_go()
        await self._meet_runs()
        await self._collect()
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_S
            await self._take_back()
            await self._forget_committed()
        await self._offer()

    async def withdraw(self) -> None:
        """Take every offer back that nobody has done yet: their runs go elsewhere."""
        await self._recognising.remove(
            [offer.entry_id for run in self._runs.values() for offer in run.offers.values()]
        )
        self._runs.clear()

    async def _let_go(self) -> None:
        """Forget runs that are over or not held any more, and what was offered of them."""
        for member, run in list(self._runs.items()):
            if run.run.held:
                continue
            await self._recognising.remove([offer.entry_id for offer in run.offers.values()])
            if run.run.is_over:
                await self._recognising.delete_results({run.keys: ()})
            del self._runs[member]

    async def _meet_runs(self) -> None:
        """Look what is there already of runs that are new here: their last holder may have died waiting for it."""
        new = {
            run.claim.keys: run for job in self._queue.recorded
            if job.recorded and (run := job.recorded.run) and run.held and run.claim.keys.member not in self._runs
        }  # fmt: skip
        for keys, found in (await self._recognising.read_results(dict.fromkeys(new, ()))).items():
            self._runs[keys.member] = _SharedRun(new[keys], found=found)

    async def _collect(self) -> None:
        """Hand every result that is there to its job."""
        for job, run in self._shared(self._queue.recorded):
            if run.found and job.recorded and (data := run.found.pop(job.recorded.reference.name, None)):
                self._settle(run, job, data)
        wanted = {
            run.keys: names for run in self._runs.values()
            if (names := [name for name, offer in run.offers.items() if not offer.is_ours])
        }  # fmt: skip
        for keys, found in (await self._recognising.read_results(wanted)).items():
            run = self._runs[keys.member]
            for name, data in found.items():
                self._settle(run, run.offers[name].job, data)
                del run.offers[name]
        await self._drop_settled()

    async def _drop_settled(self) -> None:
        """Take back what was recognised here all the same, since a call began with it before it was gone."""
        here = [
            (run, name, offer.entry_id) for run in self._runs.values() for name, offer in run.offers.items()
            if offer.job.settled
        ]  # fmt: skip
        await self._recognising.remove([entry_id for _, _, entry_id in here])
        for run, name, _ in here:
            del run.offers[name]

    def _settle(self, run: _SharedRun, job: Job, data: bytes) -> None:
        if job.recorded:
            run.taken.append(job.recorded.reference)
        try:
            recognition = _recognition.decode(data)
        except msgspec.DecodeError:
            log.warning("a result of another version is left aside", extra={"run": run.keys.member})
            _keep_here(job)
            if job not in self._queue.recorded:
                self._queue.submit_first([job])
            return
        job.settle(recognition)

    async def _take_back(self) -> None:
        """Recognise here what was offered and is gone without a result: no worker lived to leave one."""
        offers = {
            offer.entry_id: (run, name) for run in self._runs.values() for name, offer in run.offers.items()
            if not offer.is_ours
        }  # fmt: skip
        missing = [offers[entry_id] for entry_id in await self._recognising.find_removed(list(offers))]
        if not missing:
            return
        await self._collect()  # a result is written before its entry goes
        jobs = [run.offers.pop(name).job for run, name in missing if name in run.offers]
        for job in jobs:
            _keep_here(job)
        self._queue.submit_first(jobs)
        if jobs:
            log.info("utterances that others left are recognised here", extra={"utterances": len(jobs)})

    async def _forget_committed(self) -> None:
        """Nobody will ask for a result any more that a commit has made use of."""
        await self._recognising.delete_results({
            run.keys: names for run in self._runs.values() if (names := run.committed())
        })  # fmt: skip

    async def _offer(self) -> None:
        now = time.monotonic()
        jobs = list(islice(self._surplus(), OFFERS_PER_ROUND)) if now >= self._ask_at else []
        if not jobs:
            return
        offers = [(run, job.recorded.reference) for job, run in self._shared(jobs) if job.recorded]
        self._ask_at = now + ASK_S  # unless it goes well
        ids = await self._recognising.offer([(run.keys, reference) for run, reference in offers])
        if len(ids) == len(jobs):
            self._ask_at = 0.0
        for job, (run, reference), entry_id in zip(jobs, offers, ids, strict=False):
            run.offers[reference.name] = _Offer(job, entry_id)
        self._queue.withdraw(jobs[: len(ids)])
        self._metrics.offered.inc(len(ids))

    def _surplus(self) -> Iterable[Job]:
        """What waits here beyond what keeps this worker's recogniser busy."""
        waiting = self._queue.recorded
        beyond = islice(waiting, max(0, len(waiting) + self._queue.room_for_recorded), None)
        return (job for job, _ in self._shared(beyond) if job.recorded and job.recorded.may_leave and job.is_wanted)

    def _shared(self, jobs: Iterable[Job]) -> list[tuple[Job, _SharedRun]]:
        """Those jobs that are of runs held here and known, with these."""
        return [
            (job, run) for job in jobs
            if job.recorded and job.recorded.run and (run := self._runs.get(job.recorded.run.claim.keys.member))
            and run.run is job.recorded.run
        ]  # fmt: skip


def _keep_here(job: Job) -> None:
    if job.recorded:
        job.recorded.may_leave = False
