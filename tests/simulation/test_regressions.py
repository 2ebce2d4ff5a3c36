"""Defects that the simulation found, each with the steps that led to it."""

from collections.abc import Iterator

import pytest

from tests.simulation.machine import Deployment


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    """A deployment for the steps; at the end it must settle."""
    found = Deployment()
    yield found
    found.teardown()


def test_a_worker_whose_start_waited_in_a_stall_takes_over_no_live_claim(deployment: Deployment) -> None:
    """The calm of a worker that has just started begins when its first call succeeds, not before (SAFE-2)."""
    deployment.begin(workers=2, seed=1364222)
    deployment.freeze_worker(which=1, seconds=12.0, after_s=0.3)
    deployment.freeze_projector(which=3, seconds=1.8, after_s=3.0)
    deployment.stall(seconds=12.0, after_s=1.0)
    deployment.freeze_projector(which=1, seconds=0.5, after_s=0.0)
    deployment.restart(seconds=0.05, after_s=0.3)
    deployment.start_worker(after_s=6.0)
    deployment.speak(seconds=3.0, after_s=3.0)
    deployment.freeze_worker(which=1, seconds=4.0, after_s=3.0)
    deployment.invariants_hold()
