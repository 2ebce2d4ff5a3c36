"""A rolling upgrade under traffic, from a version before replays, promotion, archives and the present names."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.plan import EDGE, PROJECTOR, WORKER, draw_scenario
from tests.chaos.suite import Options, Suite
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

OLDER = "efb514d"
"""The last commit whose events, keys and scripts know no promotion of replays."""

CLIENTS = 3
SEED = 1
WAIT_S = 120.0


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The source tree of that commit."""
    if not (shutil.which("git") and shutil.which("tar")):
        pytest.skip("git and tar, which take the older version from the history, are missing")
    archived = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", OLDER],  # noqa: S607 - the git of the PATH
        capture_output=True, check=False,
    )
    if archived.returncode:
        pytest.skip(f"the history up to {OLDER} is missing: {archived.stderr.decode().strip()}")
    tree = tmp_path / "older"
    tree.mkdir()
    subprocess.run(["tar", "x", "-C", str(tree)], input=archived.stdout, check=True)  # noqa: S607
    return tree


async def more_finals(suite: Suite) -> None:
    """Wait for new finals."""
    before = sum(len(client.finals) for client in suite.clients)
    await eventually_async(
        lambda: sum(len(client.finals) for client in suite.clients) > before, WAIT_S, "finals of the mixed deployment"
    )


@pytest.mark.timeout(500)
@pytest.mark.usefixtures("alone")
async def test_old_and_new_processes_run_side_by_side(older: Path, tmp_path: Path) -> None:
    """OPS-1: an older deployment's processes are replaced one by one under traffic, and nothing is lost or repeated."""
    async with Suite(Options(tmp_path / "run", clients=CLIENTS, tree=older), draw_scenario(SEED, 0)) as suite:
        client_tasks = suite.start_clients()
        # Readers before writers: projections read both versions of facts, and workers what newer edges append.
        for role in (PROJECTOR, WORKER, EDGE):
            for number, process in enumerate(suite.roles.of(role)):
                if number:
                    await more_finals(suite)  # of one old and one new
                assert await suite.roles.replace(process, suite.build(ROOT)) == 0
                await eventually_async(suite.is_settled, WAIT_S, f"the newer {process.name} is ready")
        outcome = await suite.conclude(client_tasks)
    assert not report.failed(outcome), report.table(outcome, SEED, suite.options.lease_ms, 0.0)
    assert outcome.findings.utterances > CLIENTS
