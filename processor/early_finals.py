"""Finals made while the pause that will end their utterance still runs: there at once when it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from processor.active_runs import ActiveRun
from processor.metrics import WorkerMetrics
from processor.recognisers import RecogniserError, Recognition
from processor.recognition_job import Job
from processor.recognition_queue import RecognitionQueue
from processor.speech import Utterance

MOST_BUSY = 0.7
"""Of the recogniser's calls: past it no utterance is recognised early. Of ten, four are recognised in vain."""

MOST_WASTED, RETRY_EVERY = 3, 4
"""After so many in vain in a row only every fourth pause of the channel is tried: a reader's pauses end nothing."""

_Key = tuple[str, int]


@dataclass(slots=True, eq=False)
class _Early:
    """An open utterance whose samples are a final's if its pause continues.

    Attributes:
        key: Its run and channel.
        job: Its recognition.
        end_samples: Where the utterance would end.
        recognition: The result, once there.
        is_dropped: Whether no final will use it.
    """

    key: _Key
    job: Job
    end_samples: int
    recognition: Recognition | None = None
    is_dropped: bool = False


class EarlyFinals:
    """Recognises open utterances in their pauses, once each, and hands the results to the finals with the same samples.

    The same samples give the same text, so no fact depends on it: only when it is there.
    """

    def __init__(self, recognition: RecognitionQueue, metrics: WorkerMetrics, *, early_final_ms: int) -> None:
        """Begin when a pause is `early_final_ms` long; 0: never."""
        self._recognition = recognition
        self._metrics = metrics
        self._early: dict[_Key, _Early] = {}
        self._wasted: dict[_Key, int] = {}
        """Pauses in a row whose early final was in vain, or not tried for that."""
        self.early_final_ms = early_final_ms

    @property
    def may_begin(self) -> bool:
        """Whether an utterance may be recognised early: while live finals wait, or few calls are idle, none is."""
        queue = self._recognition
        return self.early_final_ms > 0 and not queue.waiting_live and queue.load.busy_ratio < MOST_BUSY

    def takes_next(self, run: ActiveRun, channel: int) -> bool:
        """Return whether the channel's next pause is to be tried, by how the last ones ended; ask once per pause."""
        key = (run.claim.keys.member, channel)
        wasted = self._wasted.get(key, 0)
        if wasted < MOST_WASTED:
            return True
        self._wasted[key] = wasted + 1
        return (wasted - MOST_WASTED) % RETRY_EVERY == RETRY_EVERY - 1

    def begin(
        self, run: ActiveRun, channel: int, utterance: Utterance, on_text: Callable[[Recognition], None]
    ) -> None:
        """Recognise an open utterance whose pause is long enough; `on_text` gets the result, as a provisional text.

        Once per pause: the same samples are not recognised again.
        """
        key = (run.claim.keys.member, channel)
        known = self._early.get(key)
        if known is not None and known.end_samples == utterance.end_samples:
            return
        self._drop(known)

        def on_result(result: Recognition | RecogniserError) -> None:
            if isinstance(result, Recognition):
                early.recognition = result
                self._metrics.count_early_final("recognised")
                if early.is_dropped:
                    self._count_waste(early)
                if run.is_held:
                    on_text(result)

        def is_cancelled() -> bool:
            return not run.is_held or early.is_dropped or not _is_still_open(run, channel, early)

        job = Job(
            run.clip(utterance), on_result, is_cancelled, tenant=run.start.tenant_id, session=run.claim.keys.member,
            is_early=True,
        )  # fmt: skip
        early = self._early[key] = _Early(key, job, utterance.end_samples)
        self._recognition.submit(job)

    def has_one(self, run: ActiveRun, channel: int) -> bool:
        """Whether the channel's open utterance was recognised early, or is being so."""
        return (run.claim.keys.member, channel) in self._early

    def settle(self, run: ActiveRun, channel: int, final: Job) -> bool:
        """Settle an utterance's final with its early recognition, now or as soon as that is there.

        False if none has its samples, or none has begun: then it has to be recognised.
        """
        early = self._early.pop((run.claim.keys.member, channel), None)
        if early is None:
            return False
        if early.job.clip == final.clip:
            self._wasted.pop(early.key, None)
            if early.recognition is not None:
                self._metrics.count_early_final("used")
                final.settle(early.recognition)
                return True
            if early.job.is_running:
                # From here on it is that final's, retries included.
                self._metrics.count_early_final("used")
                job, note = early.job, early.job.on_result

                def on_result(result: Recognition | RecogniserError) -> None:
                    note(result)
                    final.settle(result)

                job.on_result, job.is_cancelled, job.is_early = on_result, final.is_cancelled, False
                return True
        self._drop(early)
        return False

    def forget(self, is_held: Callable[[str], bool]) -> None:
        """Drop what belongs to runs that are no longer held, named ``<session> <run>``."""
        for key in [one for one in self._early if not is_held(one[0])]:
            self._drop(self._early.pop(key))
        for key in [one for one in self._wasted if not is_held(one[0])]:
            del self._wasted[key]

    def _drop(self, early: _Early | None) -> None:
        if early is not None:
            early.is_dropped = True
            if early.recognition is not None:
                self._count_waste(early)

    def _count_waste(self, early: _Early) -> None:
        """Count an early recognition that no final has used; it has served as a partial."""
        self._metrics.count_early_final("wasted")
        self._wasted[early.key] = self._wasted.get(early.key, 0) + 1
        self._recognition.load.count_as_partial(early.job.seconds)


def _is_still_open(run: ActiveRun, channel: int, early: _Early) -> bool:
    utterance = run.timeline.open_utterance(channel)
    return utterance is not None and utterance.end_samples == early.end_samples
