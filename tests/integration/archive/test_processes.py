"""The archive projection as processes of its own, killed while they write."""

import signal
from pathlib import Path

import numpy as np
import pytest

from eventlog.archive.reader import read_entries, verify
from eventlog.positions import START
from tests.integration.archive.live_archives import archived, at, manifest_of, store_at
from tests.integration.forwarding.test_processes import SHORT_LEASE_MS, forwarders
from tests.support.deployment import Deployment
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

STORY = Story(np.tile(talk(), (4, 1)))
"""Half a minute: several parts of the shortest length that the settings take."""


@pytest.mark.timeout(170)
async def test_killed_archivers_lose_and_leave_nothing(single: Deployment, tmp_path: Path) -> None:
    """SAFE-1: archivers that are killed with -9 as they write leave archives that others complete, to the sample."""
    store, root = store_at(tmp_path), tmp_path / "archive"
    variables = {"STENOLOG_ARCHIVE_URL": at(tmp_path).url, "STENOLOG_ARCHIVE_PART_S": "10"}
    await single.started()
    sessions = [await single.spoken(STORY) for _ in range(12)]
    await single.ended(*sessions)
    with forwarders(single.server, tmp_path, "archive") as processes:
        doomed = await processes.start(SHORT_LEASE_MS, **variables)
        await eventually_async(lambda: len(list(root.rglob("*"))) >= 20, message="it writes")
        doomed.send(signal.SIGKILL)
        doomed.ended()
        last = await processes.start(SHORT_LEASE_MS, **variables)
        await archived(store, *sessions)
        last.send(signal.SIGTERM)
        assert last.ended() == 0
    for session in sessions:
        manifest = manifest_of(store, session)
        assert manifest is not None
        assert verify(store, manifest) == []
        pcm = b"".join(entry.pcm or b"" for entry in read_entries(store, manifest, START))
        assert pcm == STORY.samples.tobytes()
