"""The long form, `python -m tests.chaos`: exit status 1 if anything was lost, duplicated or left behind."""

from __future__ import annotations

import argparse
import asyncio
import functools
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import report
from tests.chaos.plan import WEIGHTS, draw_scenario
from tests.chaos.role_processes import now_s
from tests.chaos.suite import Options, run
from tests.support.tree import ROOT

log = functools.partial(print, flush=True)
"""Its output is its interface, and an operator reads it while it runs."""

NO_CLOCKS = frozenset({"redis clock", "process clock"})


def main() -> int:
    """Run the suite with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same faults and clients")
    parser.add_argument("--engine", choices=("mock", "whisper"), default="mock")
    parser.add_argument("--lease-ms", type=int, default=1_500)
    parser.add_argument("--clients", type=int, default=8, help="number of concurrent clients")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the product's source tree; the suite's is this one")
    parser.add_argument("--old", type=Path, default=None, help="an older source tree, for every other process")
    parser.add_argument("--only", action="append", choices=sorted(WEIGHTS), help="draw this kind alone; repeatable")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a passed run too")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    directory = Path(tempfile.mkdtemp(prefix="stenolog-chaos-"))
    log(f"seed {seed}; logs and data in {directory}")
    without = frozenset[str]() if shutil.which("cc") else NO_CLOCKS
    if without:
        log("no C compiler found; clock steps left out")
    if given.only:
        without |= WEIGHTS.keys() - set(given.only)
    options = Options(
        directory / "run", given.engine, given.lease_ms, given.clients, tree=given.tree.resolve(),
        older=given.old and given.old.resolve(), log=log,
    )  # fmt: skip
    started_s = now_s()
    outcome = asyncio.run(run(options, draw_scenario(seed, given.faults, without=without)))
    log(report.table(outcome, seed, given.lease_ms, now_s() - started_s))
    failed = report.failed(outcome)
    if failed or given.keep:
        log(f"kept: {report.keep(outcome, directory, seed)}")
    else:
        shutil.rmtree(directory)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
