"""The recognition queue: order, batches, failures."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

from processor import recognition_queue
from processor.recognisers import Clip, Recogniser, RecogniserError, Recognition
from processor.recognition_job import Job
from processor.recognition_queue import RecognitionQueue
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async

Queues = Callable[[Recogniser], RecognitionQueue]


@pytest.fixture
def queue_of() -> Iterator[Queues]:
    """Makes queues, and closes them and their recognisers after the test."""
    made: list[tuple[RecognitionQueue, Recogniser]] = []

    def make(recogniser: Recogniser) -> RecognitionQueue:
        made.append((RecognitionQueue(recogniser), recogniser))
        return made[-1][0]

    yield make
    for queue, recogniser in made:
        queue.close()
        recogniser.close()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition_queue, "_FIRST_RETRY_S", 0.001)


class Answers(list[Recognition | RecogniserError]):
    """The jobs' results, in the order in which they came."""

    def job(self, clip: Clip, is_cancelled: Callable[[], bool] = lambda: False) -> Job:
        """A job whose result comes here."""
        return Job(clip, self.append, is_cancelled)


def clip(number: int, *, is_partial: bool = False) -> Clip:
    """One of many different clips."""
    return Clip(pcm=bytes([number, 1]) * 4_800, sample_rate_hz=16_000, partial=is_partial)


def numbers(clips: Sequence[Clip]) -> list[int]:
    """Which clips these are."""
    return [one.pcm[0] for one in clips]


async def test_finals_come_before_partials(queue_of: Queues) -> None:
    """However long partials have waited, a final that waits is recognised first."""
    recogniser, answers = HeldRecogniser(), Answers()
    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(0)))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(*(answers.job(clip(number, is_partial=True)) for number in (1, 2)))
    queue.submit(*(answers.job(clip(number)) for number in (3, 4)))
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 5)
    assert [numbers(call) for call in recogniser.calls] == [[0], [3, 4], [1, 2]]


async def test_waiting_clips_go_in_batches(queue_of: Queues) -> None:
    """Clips submitted together or while the recogniser is busy share its calls, as many as it takes, in order."""
    recogniser, answers = HeldRecogniser(max_batch=4), Answers()
    queue = queue_of(recogniser)
    queue.submit(*(answers.job(clip(number)) for number in range(3)))
    await eventually_async(lambda: recogniser.calls)
    for number in range(3, 10):
        queue.submit(answers.job(clip(number)))
    assert queue.waiting == 7
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 10)
    assert [numbers(call) for call in recogniser.calls] == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]


async def test_no_more_calls_at_once_than_are_of_use(queue_of: Queues) -> None:
    """The recogniser is inside as many calls as it can use, and no more."""
    recogniser, answers = HeldRecogniser(max_batch=1, max_parallel=3), Answers()
    queue = queue_of(recogniser)
    queue.submit(*(answers.job(clip(number)) for number in range(8)))
    await eventually_async(lambda: len(recogniser.calls) == 3)
    assert queue.waiting == 5
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 8)
    assert recogniser.most_at_once == 3


async def test_partials_have_room_only_while_a_recogniser_is_free(queue_of: Queues) -> None:
    """Partials have room while nothing waits and a call may begin at once, half a batch of them."""
    recogniser, answers = HeldRecogniser(max_batch=8), Answers()
    queue = queue_of(recogniser)
    assert queue.room_for_partials == 4
    queue.submit(answers.job(clip(0)))
    assert queue.room_for_partials == 0
    recogniser.gate.set()
    await eventually_async(lambda: queue.room_for_partials == 4)


async def test_a_passing_failure_is_tried_again_until_it_passes(queue_of: Queues) -> None:
    """A final whose recogniser fails for a while is answered in the end; its job gets no failure."""
    recogniser, answers = HeldRecogniser(is_open=True), Answers()

    def fail(_clips: Sequence[Clip]) -> None:
        if len(recogniser.calls) < 4:
            raise RecogniserError("busy", retryable=True)

    recogniser.fail = fail
    queue_of(recogniser).submit(answers.job(clip(0)))
    await eventually_async(lambda: answers)
    assert [type(one) for one in answers] == [Recognition]
    assert len(recogniser.calls) == 4


async def test_pauses_between_tries_grow_to_a_bound(
    queue_of: Queues, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure doubles the pause before the next try, up to a bound."""
    monkeypatch.setattr(recognition_queue, "_LONGEST_RETRY_S", 0.01)
    recogniser, answers = HeldRecogniser(is_open=True), Answers()

    def fail(_clips: Sequence[Clip]) -> None:
        if len(recogniser.calls) < 7:
            raise RecogniserError("busy", retryable=True)

    recogniser.fail = fail
    queue_of(recogniser).submit(answers.job(clip(0)))
    await eventually_async(lambda: answers)
    delays_s = [getattr(record, "delay_s") for record in caplog.records if hasattr(record, "delay_s")]  # noqa: B009
    assert delays_s == [0.002, 0.004, 0.008, 0.01, 0.01, 0.01]


async def test_one_bad_clip_spoils_no_other(queue_of: Queues) -> None:
    """Of a batch that fails permanently, each clip is tried by itself, and only the faulty one has the error."""
    recogniser = HeldRecogniser(is_open=True)

    def fail(clips: Sequence[Clip]) -> None:
        if 2 in numbers(clips):
            raise RecogniserError("unreadable", retryable=False)

    recogniser.fail = fail
    results: dict[int, Recognition | RecogniserError] = {}
    queue_of(recogniser).submit(
        *(Job(clip(number), partial(results.__setitem__, number), lambda: False) for number in range(4))
    )
    await eventually_async(lambda: len(results) == 4)
    assert [number for number, one in results.items() if isinstance(one, RecogniserError)] == [2]


async def test_a_partial_that_fails_is_not_tried_again(queue_of: Queues) -> None:
    """A partial that fails gets the error and no second try: by then newer audio supersedes it."""
    recogniser, answers = HeldRecogniser(is_open=True), Answers()

    def fail(clips: Sequence[Clip]) -> None:
        if clips[0].partial:
            raise RecogniserError("busy", retryable=True)

    recogniser.fail = fail
    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(0, is_partial=True)))
    await eventually_async(lambda: queue.room_for_partials)
    queue.submit(answers.job(clip(1)))
    await eventually_async(lambda: len(answers) == 2)
    assert [type(one) for one in answers] == [RecogniserError, Recognition]
    assert [numbers(call) for call in recogniser.calls] == [[0], [1]]


async def test_dropped_runs_are_not_recognised(queue_of: Queues) -> None:
    """A clip whose job is cancelled before its turn is not recognised."""
    recogniser, answers = HeldRecogniser(), Answers()

    def is_cancelled(number: int) -> bool:
        return number in {1, 2, 3, 5}

    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(0)))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(*(answers.job(clip(number), partial(is_cancelled, number)) for number in range(1, 7)))
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 3)
    assert [numbers(call) for call in recogniser.calls] == [[0], [4, 6]]


async def test_a_dropped_run_is_not_tried_again(queue_of: Queues) -> None:
    """Retries end when their job is cancelled."""
    recogniser, answers, failing = HeldRecogniser(is_open=True), Answers(), True

    def fail(clips: Sequence[Clip]) -> None:
        if numbers(clips) == [0]:
            raise RecogniserError("busy", retryable=True)

    recogniser.fail = fail
    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(0), lambda: not failing))
    await eventually_async(lambda: len(recogniser.calls) > 1)
    failing = False
    await eventually_async(lambda: not queue._running and not queue._retry_timers)
    assert answers == []


@pytest.mark.parametrize("error", [ValueError("spoken words"), MemoryError(), KeyError("x"), AssertionError()])
async def test_whatever_a_recogniser_raises_becomes_its_error(queue_of: Queues, error: Exception) -> None:
    """A plugged-in recogniser that raises anything gives a typed error, which names the type and no text."""
    recogniser, answers = HeldRecogniser(is_open=True), Answers()

    def fail(_clips: Sequence[Clip]) -> None:
        raise error

    recogniser.fail = fail
    queue_of(recogniser).submit(answers.job(clip(0)))
    [reported] = await eventually_async(lambda: answers)
    assert isinstance(reported, RecogniserError)
    assert not reported.retryable
    assert type(error).__name__ in str(reported)
    assert "spoken" not in str(reported)


class ShortRecogniser(HeldRecogniser):
    """Answers fewer recognitions than it was given clips."""

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Leave the last one out."""
        return super().recognise(clips)[:-1]


async def test_too_few_recognitions_are_an_error(queue_of: Queues) -> None:
    """A recogniser that doesn't answer every clip has failed, and each job gets the error."""
    answers = Answers()
    queue_of(ShortRecogniser(is_open=True)).submit(answers.job(clip(0)), answers.job(clip(1)))
    await eventually_async(lambda: len(answers) == 2)
    assert all(isinstance(one, RecogniserError) for one in answers)


async def test_closing_drops_waiting_jobs(queue_of: Queues) -> None:
    """After closing no job gets a result, and nothing more is recognised."""
    recogniser, answers = HeldRecogniser(max_batch=1), Answers()
    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(0)), answers.job(clip(1)), answers.job(clip(2, is_partial=True)))
    await eventually_async(lambda: recogniser.calls)
    queue.close()
    recogniser.gate.set()
    await eventually_async(lambda: not queue._running)
    assert answers == []
    assert [numbers(call) for call in recogniser.calls] == [[0]]


async def test_one_call_is_kept_free_for_finals(queue_of: Queues) -> None:
    """Where calls run side by side, partials never take the last of them."""
    recogniser, answers = HeldRecogniser(max_batch=2, max_parallel=2), Answers()
    queue = queue_of(recogniser)
    assert queue.room_for_partials == 1
    queue.submit(answers.job(clip(0, is_partial=True)))
    assert queue.room_for_partials == 0
    queue.submit(answers.job(clip(1)))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 2)


async def test_clips_are_shared_out_over_free_calls(queue_of: Queues) -> None:
    """Clips that come together go to as many calls as are free, rather than into one batch."""
    recogniser, answers = HeldRecogniser(max_batch=8, max_parallel=2), Answers()
    queue_of(recogniser).submit(*(answers.job(clip(number)) for number in range(4)))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 4)
    assert sorted(map(numbers, recogniser.calls)) == [[0, 1], [2, 3]]


def of(answers: Answers, number: int, session: str, tenant: str = "", *, is_behind: bool = False) -> Job:
    """A final of a session."""
    job = answers.job(clip(number))
    job.tenant, job.session, job.is_behind = tenant, session, is_behind
    return job


async def test_sessions_take_turns(queue_of: Queues) -> None:
    """A session with one final waits for one turn of each other, not for all that another has waiting (WORD-7)."""
    recogniser, answers = HeldRecogniser(max_batch=1), Answers()
    queue = queue_of(recogniser)
    queue.submit(of(answers, 0, "long"))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(*(of(answers, number, "long") for number in range(1, 9)), of(answers, 50, "short"))
    queue.submit(of(answers, 60, "other", "tenant"))
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 11)
    order = [numbers(call)[0] for call in recogniser.calls]
    assert set(order[1:4]) == {1, 50, 60}
    assert [one for one in order if one < 50] == list(range(9)), "one session's finals keep their order"


async def test_live_finals_come_before_those_of_sessions_that_are_behind(queue_of: Queues) -> None:
    """However much of a backlog waits, a live final is the next, and one call stays free for it (WORD-7)."""
    recogniser, answers = HeldRecogniser(max_batch=2, max_parallel=2), Answers()
    queue = queue_of(recogniser)
    queue.submit(*(of(answers, number, "behind", is_behind=True) for number in range(20)))
    await eventually_async(lambda: recogniser.calls)
    assert len(queue._running) == 1
    queue.submit(of(answers, 99, "live"))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    assert numbers(recogniser.calls[1]) == [99]
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 21)


async def test_sessions_that_are_behind_have_a_share(queue_of: Queues) -> None:
    """While live finals wait all the time, a quarter of the recogniser goes to the backlog (WORD-7)."""
    recogniser, answers = HeldRecogniser(max_batch=1), Answers()
    queue = queue_of(recogniser)
    queue.submit(of(answers, 0, "live"))
    await eventually_async(lambda: recogniser.calls)
    queue.submit(*(of(answers, 200, "behind", is_behind=True) for _ in range(20)))
    queue.submit(*(of(answers, number, f"live {number % 3}") for number in range(1, 40)))
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 60)
    first = [numbers(call)[0] for call in recogniser.calls][:40]
    assert 9 <= first.count(200) <= 11
    assert first[1] != 200


async def test_a_backlog_has_all_calls_without_live_speech() -> None:
    """Where no live session is held, one that is behind is recognised by every call."""
    recogniser, answers = HeldRecogniser(max_batch=1, max_parallel=2), Answers()
    queue = RecognitionQueue(recogniser, has_live=lambda: False)
    queue.submit(*(of(answers, number, "behind", is_behind=True) for number in range(4)))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 4)
    queue.close()


async def test_a_long_backlog_goes_in_short_calls(queue_of: Queues) -> None:
    """A call for a session that is behind ends with the first clip past ten seconds of speech."""
    recogniser, answers = HeldRecogniser(max_batch=16, is_open=True), Answers()
    jobs = [of(answers, 0, "behind", is_behind=True) for _ in range(8)]
    for job in jobs:
        job.clip = Clip(pcm=bytes(2 * 16_000 * 6), sample_rate_hz=16_000)
    queue_of(recogniser).submit(*jobs)
    await eventually_async(lambda: len(answers) == 8)
    assert [len(call) for call in recogniser.calls] == [2, 2, 2, 2]


async def test_early_finals_come_after_finals_and_before_partials(queue_of: Queues) -> None:
    """An early final waits for the finals of utterances that have ended, and partials wait for it."""
    recogniser, answers = HeldRecogniser(max_batch=1), Answers()
    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(0)))
    await eventually_async(lambda: recogniser.calls)
    early = answers.job(clip(2))
    early.is_early = True
    queue.submit(answers.job(clip(3, is_partial=True)), early, answers.job(clip(1)))
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 4)
    assert [numbers(call) for call in recogniser.calls] == [[0], [1], [2], [3]]


async def test_finals_that_are_obsolete_hold_nothing_up(queue_of: Queues) -> None:
    """Where all finals that wait are obsolete, the next kind of work begins in their place."""
    recogniser, answers = HeldRecogniser(max_batch=1), Answers()
    queue = queue_of(recogniser)
    queue.submit(answers.job(clip(1), lambda: True), answers.job(clip(2, is_partial=True)))
    await eventually_async(lambda: recogniser.calls)
    assert [numbers(call) for call in recogniser.calls] == [[2]]


async def test_partials_run_beside_finals_and_backlogs_do_not(queue_of: Queues) -> None:
    """With two calls a partial may begin while a final is recognised; a long clip of a backlog waits for that."""
    recogniser, answers = HeldRecogniser(max_batch=1, max_parallel=2), Answers()
    queue = queue_of(recogniser)
    queue.submit(of(answers, 1, "live"))
    queue.submit(of(answers, 2, "behind", is_behind=True))
    await eventually_async(lambda: recogniser.calls)
    assert queue.room_for_partials == 1
    queue.submit(answers.job(clip(3, is_partial=True)))
    await eventually_async(lambda: len(recogniser.calls) == 2)
    assert sorted(map(numbers, recogniser.calls)) == [[1], [3]]
    recogniser.gate.set()
    await eventually_async(lambda: len(answers) == 3)


async def test_partials_hear_of_a_free_call(queue_of: Queues) -> None:
    """When a call has ended and nothing waits, partials are looked for at once."""
    recogniser, answers = HeldRecogniser(is_open=True), Answers()
    queue = queue_of(recogniser)
    rooms: list[int] = []
    queue.on_idle = lambda: rooms.append(queue.room_for_partials)
    queue.submit(answers.job(clip(0)))
    await eventually_async(lambda: rooms)
    assert rooms == [2]
