"""The recognition queue with recordings in it: live finals first, and no recording starves."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from eventlog.work.shared_recognition import Reference
from processor.recognisers import Clip, RecogniserError, Recognition
from processor.recognition_job import Job, RecordedUtterance
from processor.recognition_queue import RecognitionQueue
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async

REFERENCE = Reference(
    channel=0, channels=1, start_samples=0, end_samples=1, sample_rate_hz=16_000, language="en", voiced_ms=100
)
Queues = Callable[..., RecognitionQueue]


@pytest.fixture
def queue_of() -> Iterator[Queues]:
    """Makes queues, and closes them and their recognisers after the test."""
    made: list[tuple[RecognitionQueue, HeldRecogniser]] = []

    def make(recogniser: HeldRecogniser, *, has_live: bool = True) -> RecognitionQueue:
        made.append((RecognitionQueue(recogniser, has_live=lambda: has_live), recogniser))
        return made[-1][0]

    yield make
    for queue, recogniser in made:
        queue.close()
        recogniser.close()


def job(number: int, kind: str = "recorded", samples: int = 4_800) -> Job:
    """One of many different clips."""
    clip = Clip(pcm=bytes([number, 1]) * samples, sample_rate_hz=16_000, partial=kind == "partial")
    recorded = RecordedUtterance(None, REFERENCE) if kind == "recorded" else None
    return Job(clip, ignored, lambda: False, recorded=recorded)


def ignored(_: Recognition | RecogniserError) -> None:
    """Ignore the result."""


def numbers(clips: Sequence[Clip]) -> list[int]:
    """Which clips these are."""
    return [one.pcm[0] for one in clips]


async def test_live_finals_come_before_recordings(queue_of: Queues) -> None:
    """However long utterances of recordings have waited, a live final is recognised first."""
    recogniser = HeldRecogniser(max_batch=4)
    queue = queue_of(recogniser)
    queue.submit(*map(job, range(5)))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(job(7, "final"))
    recogniser.gate.set()
    await eventually_async(lambda: len(recogniser.calls) == 4)
    assert [numbers(call) for call in recogniser.calls] == [[0, 1], [7], [2, 3], [4]]


async def test_recordings_and_partials_take_turns(queue_of: Queues) -> None:
    """Neither starves the other: partials have the first turn, recordings the next, and so on."""
    recogniser = HeldRecogniser(max_batch=2)
    queue = queue_of(recogniser)
    queue.submit(job(0, "final"))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(*map(job, range(10, 13)), *(job(number, "partial") for number in range(20, 24)))
    recogniser.gate.set()
    await eventually_async(lambda: len(recogniser.calls) == 6)
    assert [numbers(call) for call in recogniser.calls] == [[0], [20, 21], [10], [22, 23], [11], [12]]


async def test_partials_have_room_beside_recordings(queue_of: Queues) -> None:
    """A call with a recording counts as free, since partials have the next turn; one with a final doesn't."""
    recogniser = HeldRecogniser(max_batch=8)
    queue = queue_of(recogniser)
    queue.submit(*map(job, range(20)))
    await eventually_async(lambda: recogniser.calls)
    assert queue.room_for_partials == 4
    queue.submit(job(0, "partial"))
    assert queue.room_for_partials == 0


async def test_one_call_stays_free_for_live_finals(queue_of: Queues) -> None:
    """While a live session is held, recordings have all calls but one, and that one takes a final at once."""
    recogniser = HeldRecogniser(max_batch=1, max_parallel=3)
    queue = queue_of(recogniser)
    queue.submit(*map(job, range(9)))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    queue.submit(job(30, "partial"))
    assert not any(30 in numbers(call) for call in recogniser.calls)
    queue.submit(job(99, "final"))
    await eventually_async(lambda: len(recogniser.calls) == 3)
    assert numbers(recogniser.calls[2]) == [99]
    recogniser.gate.set()
    await eventually_async(lambda: len(recogniser.calls) == 11)


async def test_recordings_have_all_calls_without_a_live_session(queue_of: Queues) -> None:
    """Without a live session recordings use every call, in whole batches."""
    recogniser = HeldRecogniser(max_batch=4, max_parallel=2)
    queue = queue_of(recogniser, has_live=False)
    queue.submit(*map(job, range(16)))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    assert sorted(len(call) for call in recogniser.calls) == [4, 4]


async def test_room_for_recordings_is_a_batch_for_each_call(queue_of: Queues) -> None:
    """As much is of use as the next calls take, less while a live session is held, and nothing while finals wait."""
    recogniser = HeldRecogniser(max_batch=4, max_parallel=2)
    idle, talking = queue_of(recogniser, has_live=False), queue_of(recogniser)
    assert (idle.room_for_recorded, talking.room_for_recorded) == (8, 2)
    idle.submit(*map(job, range(20)))
    assert idle.room_for_recorded == 8 - 12
    talking.submit(*map(job, range(5)), *(job(number, "final") for number in range(20, 40)))
    assert talking.room_for_recorded == -len(talking.recorded)


async def test_a_batch_holds_utterances_of_similar_length(queue_of: Queues) -> None:
    """With the utterance that is next go those most like it in length, and none is passed over for long."""
    recogniser = HeldRecogniser(max_batch=2)
    queue = queue_of(recogniser, has_live=False)
    queue.submit(job(0, "final"))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(*(job(number, samples=samples) for number, samples in enumerate((900, 100, 510, 890, 500, 120), 1)))
    recogniser.gate.set()
    await eventually_async(lambda: len(recogniser.calls) == 4)
    assert [numbers(call) for call in recogniser.calls[1:]] == [[1, 4], [2, 6], [3, 5]]


async def test_recordings_take_turns(queue_of: Queues) -> None:
    """A recording that comes later has its turn beside one of which much waits already."""
    recogniser = HeldRecogniser(max_batch=1)
    queue = queue_of(recogniser)
    runs = [object(), object(), object()]
    jobs = [job(number) for number in range(9)]
    for one, run in zip(jobs, [0, 0, 0, 0, 0, 1, 1, 2, 2], strict=True):
        assert one.recorded is not None
        one.recorded.run = runs[run]  # type: ignore[assignment]
    queue.submit(*jobs)
    recogniser.gate.set()
    await eventually_async(lambda: len(recogniser.calls) == 9)
    assert [numbers(call) for call in recogniser.calls] == [[0], [5], [7], [1], [6], [8], [2], [3], [4]]


async def test_utterances_settled_elsewhere_are_skipped(queue_of: Queues) -> None:
    """An utterance whose result came from another worker is not recognised here, and gets one result only."""
    recogniser = HeldRecogniser(max_batch=1)
    queue = queue_of(recogniser)
    results: list[Recognition | RecogniserError] = []
    jobs = [job(number) for number in range(3)]
    for one in jobs:
        one.on_result = results.append
    queue.submit(*jobs)
    await eventually_async(lambda: recogniser.calls)
    for one in jobs[:2]:
        one.settle(Recognition(text="from elsewhere", confidence=1.0))
    recogniser.gate.set()
    await eventually_async(lambda: len(results) == 3)
    assert [numbers(call) for call in recogniser.calls] == [[0], [2]]
    assert [one.text for one in results if isinstance(one, Recognition)][:2] == ["from elsewhere"] * 2


async def test_returned_utterances_go_first(queue_of: Queues) -> None:
    """Utterances that other workers returned unrecognised come before those that were decided after them."""
    recogniser = HeldRecogniser(max_batch=1)
    queue = queue_of(recogniser)
    queue.submit(*map(job, range(3)))
    await eventually_async(lambda: recogniser.calls)
    queue.return_recorded([job(10), job(11)])
    recogniser.gate.set()
    await eventually_async(lambda: len(recogniser.calls) == 5)
    assert [numbers(call) for call in recogniser.calls] == [[0], [10], [11], [1], [2]]
