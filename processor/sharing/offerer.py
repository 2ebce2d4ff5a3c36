"""The holder's side of shared recognition: offers utterances beyond its recogniser's capacity, and collects results."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from eventlog.keys import RunKeys
from eventlog.work.shared_recognition import Reference, SharedRecognition, Taken
from processor.active_runs import ActiveRun
from processor.metrics import WorkerMetrics
from processor.recognisers import Recognition
from processor.recognition_job import Job
from processor.recognition_queue import RecognitionQueue

log = logging.getLogger(__name__)

ASK_S = 1.0
"""Between two offers while no other worker looks for work: a worker alone asks this often whether it still is."""

CHECK_S = 1.0
"""Between two checks for offers without a living taker: takers die seldom, and a lease passes before it shows."""

OFFERS_PER_ROUND = 64
"""In one call: some 60 µs of Redis's time."""

_recognition = msgspec.json.Decoder(Recognition)


@dataclass(slots=True)
class _Offer:
    """An utterance that waits for a result.

    Attributes:
        job: Its job here.
        entry_id: Its entry on the stream.
        is_ours: Whether this worker took it itself.
    """

    job: Job
    entry_id: str
    is_ours: bool = False


@dataclass(slots=True)
class _SharedRun:
    """A run of which utterances were shared.

    Attributes:
        run: The run.
        offers: By the utterance's name.
        found: Results for an earlier holder, by name, of utterances not decided here yet.
        used: References of results that can be dropped once they are committed.
    """

    run: ActiveRun
    offers: dict[str, _Offer] = field(default_factory=dict)
    found: dict[str, bytes] = field(default_factory=dict)
    used: list[Reference] = field(default_factory=list)

    @property
    def keys(self) -> RunKeys:
        """The run's keys."""
        return self.run.claim.keys

    def pop_committed(self) -> list[str]:
        """Remove the used results that are in the log by now; returns their names."""
        boundaries = self.run.checkpoint.boundaries
        committed = [one.name for one in self.used if one.is_behind(boundaries)]
        self.used = [one for one in self.used if not one.is_behind(boundaries)]
        return committed


class Offerer:
    """Offers utterances, and settles their jobs with the results; one round at a time, each step may be repeated."""

    def __init__(self, shared: SharedRecognition, queue: RecognitionQueue, metrics: WorkerMetrics) -> None:
        """Offer utterances that wait in `queue`."""
        self._shared = shared
        self._queue = queue
        self._metrics = metrics
        self._runs: dict[str, _SharedRun] = {}
        self._ask_at = 0.0
        self._check_at = 0.0

    @property
    def waiting(self) -> int:
        """How many offered utterances wait for a result."""
        return sum(len(run.offers) for run in self._runs.values())

    def claim_own(self, taken: Taken) -> Job | None:
        """The job, samples included, of a taken utterance if this very worker offered it."""
        run = self._runs.get(taken.keys.member)
        offer = run.offers.get(taken.reference.name) if run else None
        if offer is None or offer.job.is_settled:
            return None
        offer.is_ours, offer.entry_id = True, taken.entry_id
        return offer.job

    def disown(self, taken: Taken) -> None:
        """Wait for another worker's result of an own utterance that this worker took and did not recognise in time."""
        run = self._runs.get(taken.keys.member)
        if run and (offer := run.offers.get(taken.reference.name)):
            offer.is_ours = False

    async def do_round(self) -> None:
        """Forget lost runs, collect results, and offer utterances once.

        Raises:
            LogUnavailableError: if Redis cannot be reached; the next round continues from there.
        """
        await self._forget_lost_runs()
        await self._add_new_runs()
        await self._collect()
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_S
            await self._reclaim()
            await self._forget_committed()
        await self._offer()

    async def withdraw(self) -> None:
        """Remove every offer that is not recognised yet: their runs go to other workers."""
        await self._shared.remove(
            [offer.entry_id for run in self._runs.values() for offer in run.offers.values()]
        )
        self._runs.clear()

    async def _forget_lost_runs(self) -> None:
        """Forget runs that are finished or lost, and remove their offers."""
        for member, run in list(self._runs.items()):
            if run.run.is_held:
                continue
            await self._shared.remove([offer.entry_id for offer in run.offers.values()])
            if run.run.is_finished:
                await self._shared.delete_results({run.keys: ()})
            del self._runs[member]

    async def _add_new_runs(self) -> None:
        """Fetch the existing results of runs that are new here: their last holder may have died waiting for them."""
        new = {
            run.claim.keys: run for job in self._queue.recorded
            if job.recorded and (run := job.recorded.run) and run.is_held and run.claim.keys.member not in self._runs
        }  # fmt: skip
        for keys, found in (await self._shared.read_results(dict.fromkeys(new, ()))).items():
            self._runs[keys.member] = _SharedRun(new[keys], found=found)

    async def _collect(self) -> None:
        """Settle the jobs whose results have arrived."""
        for job, run in self._with_runs(self._queue.recorded):
            if run.found and job.recorded and (data := run.found.pop(job.recorded.reference.name, None)):
                self._use_result(run, job, data)
        wanted = {
            run.keys: names for run in self._runs.values()
            if (names := [name for name, offer in run.offers.items() if not offer.is_ours])
        }  # fmt: skip
        for keys, found in (await self._shared.read_results(wanted)).items():
            run = self._runs[keys.member]
            for name, data in found.items():
                self._use_result(run, run.offers[name].job, data)
                del run.offers[name]
        await self._drop_settled()

    async def _drop_settled(self) -> None:
        """Remove offers that were recognised here all the same, by a call that had begun before they were withdrawn."""
        here = [
            (run, name, offer.entry_id) for run in self._runs.values() for name, offer in run.offers.items()
            if offer.job.is_settled
        ]  # fmt: skip
        await self._shared.remove([entry_id for _, _, entry_id in here])
        for run, name, _ in here:
            del run.offers[name]

    def _use_result(self, run: _SharedRun, job: Job, data: bytes) -> None:
        if job.recorded:
            run.used.append(job.recorded.reference)
        try:
            recognition = _recognition.decode(data)
        except msgspec.DecodeError:
            log.warning("result of another version ignored; recognising here", extra={"run": run.keys.member})
            _keep_here(job)
            if job not in self._queue.recorded:
                self._queue.return_recorded([job])
            return
        job.settle(recognition)

    async def _reclaim(self) -> None:
        """Recognise here the offers whose entries are gone without a result: no taker lived to write one."""
        offers = {
            offer.entry_id: (run, name) for run in self._runs.values() for name, offer in run.offers.items()
            if not offer.is_ours
        }  # fmt: skip
        missing = [offers[entry_id] for entry_id in await self._shared.find_removed(list(offers))]
        if not missing:
            return
        await self._collect()  # a result is written before its entry goes
        jobs = [run.offers.pop(name).job for run, name in missing if name in run.offers]
        for job in jobs:
            _keep_here(job)
        self._queue.return_recorded(jobs)
        if jobs:
            log.info("shared utterances returned unrecognised; recognising here", extra={"utterances": len(jobs)})

    async def _forget_committed(self) -> None:
        """Drop the results that a commit has used: they are not needed again."""
        await self._shared.delete_results({
            run.keys: names for run in self._runs.values() if (names := run.pop_committed())
        })  # fmt: skip

    async def _offer(self) -> None:
        now = time.monotonic()
        jobs = list(islice(self._surplus(), OFFERS_PER_ROUND)) if now >= self._ask_at else []
        if not jobs:
            return
        offers = [(run, job.recorded.reference) for job, run in self._with_runs(jobs) if job.recorded]
        self._ask_at = now + ASK_S  # unless the offer succeeds
        ids = await self._shared.offer([(run.keys, reference) for run, reference in offers])
        if len(ids) == len(jobs):
            self._ask_at = 0.0
        for job, (run, reference), entry_id in zip(jobs, offers, ids, strict=False):
            run.offers[reference.name] = _Offer(job, entry_id)
        self._queue.withdraw(jobs[: len(ids)])
        self._metrics.offered.inc(len(ids))

    def _surplus(self) -> Iterable[Job]:
        """The waiting jobs beyond those that keep this worker's recogniser busy."""
        waiting = self._queue.recorded
        beyond = islice(waiting, max(0, len(waiting) + self._queue.room_for_recorded), None)
        return (
            job for job, _ in self._with_runs(beyond)
            if job.recorded and job.recorded.may_be_offered and not job.is_obsolete
        )  # fmt: skip

    def _with_runs(self, jobs: Iterable[Job]) -> list[tuple[Job, _SharedRun]]:
        """The jobs of known runs that are held here, with their runs."""
        return [
            (job, run) for job in jobs
            if job.recorded and job.recorded.run and (run := self._runs.get(job.recorded.run.claim.keys.member))
            and run.run is job.recorded.run
        ]  # fmt: skip


def _keep_here(job: Job) -> None:
    if job.recorded:
        job.recorded.may_be_offered = False
