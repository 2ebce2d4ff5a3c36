"""Thousands of interleavings of claims, commits and projections in virtual time; docs/simulation.md says how."""

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import Deployment

EXAMPLES = int(os.environ.get("SIMULATE_EXAMPLES", "120"))
"""Each has up to thirty faults and thousands of scheduled steps, in a fifth of a second; `make simulate` does more."""

SEED = int(os.environ.get("SIMULATE_SEED", "0"))
"""The same ones each time, unless the caller sets another."""

PARTS = 4
"""Tests that share the examples, so that several cores do, and none takes long."""

STEPS = 30

PHASES = tuple(Phase) if "SIMULATE_EXAMPLES" in os.environ else (Phase.generate,)
"""Shrinking a failure takes minutes, too long for a test: `make simulate EXAMPLES=120 SEED=0` does it."""


@pytest.mark.parametrize("part", range(PARTS))
def test_under_every_fault_each_utterance_is_stated_once(part: int) -> None:
    """Through deaths, stalls and lost, late or doubled calls each utterance is stated once, in order (SAFE-1)."""
    machine = seed(SEED * PARTS + part)(type("Deployment", (Deployment,), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES // PARTS, stateful_step_count=STEPS, deadline=None, print_blob=True, database=None,
            suppress_health_check=list(HealthCheck), phases=PHASES,
        ),
    )  # fmt: skip
