"""The arithmetic of the benchmarks."""

import argparse

import pytest

from benchmarks.live import compare_phases, plan_phases
from benchmarks.stability import changed_words, slope_ms_per_min


@pytest.mark.parametrize(
    ("stable", "final", "expected"),
    [
        ("the cat", "The cat, sat down.", (0, 2)),
        ("the cat", "a cat sat", (1, 2)),
        ("the cat sat", "the cat", (1, 3)),
        ("one two", "", (2, 2)),
        ("", "anything", (0, 0)),
    ],
)
def test_stable_words_are_compared_with_the_begin_of_the_final(
    stable: str, final: str, expected: tuple[int, int]
) -> None:
    """Words behind the stable ones don't count, nor do case and punctuation."""
    assert changed_words(stable, final) == expected


def test_a_growing_latency_has_a_slope() -> None:
    """A latency that grows by 10 ms a second grows by 600 ms a minute; a steady one doesn't."""
    assert slope_ms_per_min([(at, 0.5 + at / 100) for at in range(60)]) == 600.0
    assert slope_ms_per_min([(at, 0.5) for at in range(60)]) == 0.0
    assert slope_ms_per_min([]) == slope_ms_per_min([(1.0, 2.0)]) == 0.0


def arguments(**given: object) -> argparse.Namespace:
    """The benchmark's arguments."""
    usual = {"pausing": False, "continuous": False, "in_step": False, "burst": False, "muted": 0}
    return argparse.Namespace(**usual | given)


def test_phases_follow_the_options() -> None:
    """Without options one phase is measured; a burst has its sessions alone to be compared with."""
    assert plan_phases(arguments()) == {"pausing": []}
    assert list(plan_phases(arguments(pausing=True, continuous=True))) == ["pausing", "continuous"]
    assert list(plan_phases(arguments(continuous=True, burst=True))) == ["continuous", "beside_burst"]
    assert plan_phases(arguments(muted=3)) == {"muted": ["--speech", "pausing", "--muted", "3"]}


def test_phases_are_compared() -> None:
    """Continuous speech is compared with pausing speech, and a burst's neighbours with themselves alone."""
    found = {
        "pausing": {"final_ms": {"p50": 100.0, "p95": 200.0}},
        "continuous": {"final_ms": {"p50": 150.0, "p95": 300.0}},
        "beside_burst": {"final_ms": {"p50": 140.0, "p95": 260.0}},
    }
    assert compare_phases(found) == {
        "continuous_p95_ratio": 1.5, "later_beside_burst_ms": {"p50": 40.0, "p95": 60.0},
    }  # fmt: skip
    assert compare_phases({"pausing": {"final_ms": None}, "beside_burst": {"final_ms": None}}) == {}
