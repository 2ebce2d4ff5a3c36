"""A worker's metrics."""

from collections.abc import Sequence

from processor.recognisers import Clip, RecogniserError
from processor.worker import Worker
from tests.support.deployment import Deployment, abandon, held
from tests.support.metric_samples import Samples, of, samples
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async

LEASE_MS = 250


def scraped(worker: Worker) -> Samples:
    """A worker's metrics now."""
    return samples(worker._server.meter.exposition("")[0].decode())


async def test_a_run_shows_in_the_metrics(deployment: Deployment) -> None:
    """Runs, recognitions, commits, and the way of each final from its decision into the log are measured (OPS-3)."""
    worker = await deployment.started()
    session = await deployment.spoken(Story(talk(16_000, 2)))
    await deployment.ended(session)
    await held(worker, 0)
    found = scraped(worker)
    finals = await session.finals()
    assert of(found, "stenolog_worker_final_latency_seconds_count") >= finals > 0
    assert of(found, "stenolog_worker_recognition_duration_seconds_count", engine="mock", kind="final") > 0
    assert of(found, "stenolog_worker_commits_total", code="ok") > 0
    assert of(found, "stenolog_worker_commit_duration_seconds_count") > 0
    assert of(found, "stenolog_worker_segmenting_seconds_total") > 0
    assert of(found, "stenolog_worker_runs") == 0
    assert of(found, "stenolog_worker_oldest_decision_seconds") == 0


async def test_waiting_decisions_show_as_lag(deployment: Deployment) -> None:
    """While recognition is held up, the waiting decisions' age shows, and so do throttled runs (OPS-3)."""
    recogniser = HeldRecogniser(max_batch=1)
    worker = await deployment.started(recogniser, max_pending_utterances=1)
    await deployment.spoken(Story(talk(16_000, 4)))

    def lagging() -> bool:
        found = scraped(worker)
        return all(of(found, f"stenolog_worker_{name}") > 0 for name in (
            "runs", "oldest_decision_seconds", "uncommitted_audio_seconds", "throttled_runs",
        ))  # fmt: skip

    await eventually_async(lagging)


async def test_takeovers_are_counted(deployment: Deployment) -> None:
    """A run that is taken over from a dead worker is counted by the one that takes it (OPS-3)."""
    first = await deployment.started(lease_ms=LEASE_MS)
    await deployment.open(Story(talk()))
    await held(first, 1)
    await abandon(first)
    second = await deployment.started(lease_ms=LEASE_MS)
    await held(second, 1)
    assert of(scraped(second), "stenolog_worker_takeovers_total") == 1
    assert of(scraped(first), "stenolog_worker_takeovers_total") == 0


async def test_quarantined_runs_are_counted(deployment: Deployment) -> None:
    """A run that cannot be processed is quarantined and counted (SAFE-3, OPS-3)."""
    def refuse(_: Sequence[Clip]) -> None:
        raise RecogniserError("no", retryable=False)

    recogniser = HeldRecogniser(is_open=True)
    recogniser.fail = refuse
    worker = await deployment.started(recogniser)
    await deployment.spoken(Story(talk()))
    await eventually_async(lambda: of(scraped(worker), "stenolog_worker_quarantined_total") == 1)
