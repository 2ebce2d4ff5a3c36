"""The short form of `make chaos`: every kind of fault once."""

import os
import shutil
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.__main__ import NO_CLOCKS
from tests.chaos.plan import WEIGHTS, draw_scenario
from tests.chaos.role_processes import now_s
from tests.chaos.suite import Options, run

SEED = int(os.environ.get("CHAOS_SEED", "4711"))
"""Fixed, so that all runs are alike; the long form draws its own."""

CLIENTS = 4
LEASE_MS = 1_500


@pytest.mark.timeout(500)
@pytest.mark.usefixtures("alone")
async def test_no_fault_loses_or_duplicates_anything(tmp_path: Path) -> None:
    """SAFE-1, SAFE-2, SAFE-3: with every kind of fault injected once, each session is as without faults."""
    without = frozenset[str]() if shutil.which("cc") else NO_CLOCKS
    scenario = draw_scenario(SEED, len(WEIGHTS) - len(without), without=without)
    started_s = now_s()
    outcome = await run(Options(tmp_path / "run", lease_ms=LEASE_MS, clients=CLIENTS), scenario)
    table = report.table(outcome, SEED, LEASE_MS, now_s() - started_s)
    assert not report.failed(outcome), table
    assert outcome.findings.utterances > 0
    assert {fault.kind for fault, _ in outcome.faults} == WEIGHTS.keys() - without
