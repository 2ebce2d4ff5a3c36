"""How much of the recogniser partials get, by measured seconds."""

from processor.partial_budget import FEW_TALKERS, PartialBudget
from processor.recogniser_load import WINDOW_S, RecogniserLoad


class Clock:
    """Time that a test moves on."""

    def __init__(self) -> None:
        """Begin some time after zero."""
        self.now_s = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class Worker:
    """A recogniser that is used as far as its budget allows."""

    def __init__(self, max_parallel: int = 2) -> None:
        """Begin with nothing recognised."""
        self.clock = Clock()
        self.load = RecogniserLoad(max_parallel, self.clock)
        self.budget = PartialBudget(self.load, max_parallel, self.clock)

    def call(self, seconds: float, *, is_partial: bool) -> None:
        """Measure a call."""
        self.load.begin(0)
        self.clock.now_s += seconds
        self.load.end(0, is_partial=is_partial)

    def partials(self, talkers: int, cost_s: float = 0.2) -> int:
        """Make as many partials as may be made now."""
        made = 0
        while self.budget.room(talkers, 0) > 0 and made < 1_000:
            self.call(cost_s, is_partial=True)
            self.budget.note_done(cost_s)
            self.clock.now_s -= cost_s  # they run beside all else
            made += 1
        return made


def test_many_talkers_have_as_much_partial_as_final_time() -> None:
    """With more than eight talkers partials take at most what finals take, whatever time passes (WORD-4)."""
    worker = Worker()
    worker.partials(FEW_TALKERS + 1)
    before_s, finals_s = worker.load.partial_s, worker.load.final_s
    for _ in range(200):
        worker.clock.now_s += 1.0
        worker.call(0.3, is_partial=False)
        worker.partials(FEW_TALKERS + 1)
    final_s = worker.load.final_s - finals_s
    assert final_s - 0.3 <= worker.load.partial_s - before_s <= final_s + 0.3


def test_few_talkers_have_partials_without_finals() -> None:
    """Up to eight talkers, partials may take half of all calls though no final comes."""
    worker = Worker()
    worker.partials(1)
    before_s = worker.load.partial_s
    for _ in range(200):
        worker.clock.now_s += 0.1
        worker.partials(FEW_TALKERS)
    assert 19.0 < worker.load.partial_s - before_s < 21.0


def test_unused_time_makes_no_long_burst() -> None:
    """After minutes without partials no more of them come together than two seconds' worth."""
    worker = Worker()
    worker.partials(1)
    worker.clock.now_s += 600.0
    assert 9 <= worker.partials(1) <= 11


def test_partials_under_way_count() -> None:
    """Those that were submitted and are not measured yet use the budget by their mean cost."""
    worker = Worker()
    assert worker.budget.room(1, 0) > 100, "no cost is known yet"
    worker.partials(1)
    worker.clock.now_s += 1.1
    assert [worker.budget.room(1, waiting) for waiting in (0, 2, 4, 6)] == [6, 4, 2, 0]


def test_an_early_final_that_is_wasted_counts_as_a_partial() -> None:
    """The time of an early final whose utterance continued moves from the finals to the partials."""
    worker = Worker()
    worker.call(0.5, is_partial=False)
    worker.load.count_as_partial(0.5)
    assert (worker.load.final_s, worker.load.partial_s) == (0.0, 0.5)


def test_the_load_is_of_the_last_seconds() -> None:
    """A recogniser of two calls is half busy while one runs all the time, and idle soon after."""
    worker = Worker()
    assert worker.load.busy_ratio == 0.0
    for _ in range(50):
        worker.call(WINDOW_S / 10, is_partial=False)
    assert 0.5 <= worker.load.busy_ratio <= 0.56
    worker.load.begin(1)
    worker.clock.now_s += WINDOW_S / 2
    assert 0.5 <= worker.load.busy_ratio <= 0.56, "one that runs counts too"
    worker.load.end(1, is_partial=True)
    worker.clock.now_s += WINDOW_S + 0.1
    assert worker.load.busy_ratio == 0.0


def test_a_backlog_is_no_load_for_live_speech() -> None:
    """Calls of sessions that are behind, running or ended, leave live speech its early finals."""
    worker = Worker()
    worker.load.begin(1, yields=True)
    worker.clock.now_s += WINDOW_S
    assert worker.load.busy_ratio == 0.0
    worker.load.end(1, is_partial=False)
    assert (worker.load.busy_ratio, worker.load.final_s) == (0.0, WINDOW_S)
