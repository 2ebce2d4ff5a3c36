"""A session that kills every process which recognises it, and the worker command that gets rid of it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.commands import ROOT, environment
from tests.processor.audio import Story, talk
from tests.processor.deployment import PARTITIONS, Deployment, Session
from tests.support.waiting import eventually_async
from tests.support.watching import Watcher

DEADLY_RATE_HZ = 8_000
# Four starts of a worker, each followed by a lease in which it takes over nothing, and two trials.
TIMEOUT_S = 60

RECOGNISER = f"""
import os, signal
from processor.recognisers.mock import MockRecogniser

class Deadly(MockRecogniser):
    def recognise(self, clips):
        if any(clip.sample_rate_hz == {DEADLY_RATE_HZ} for clip in clips):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().recognise(clips)
"""


class Workers:
    """`stenolog worker`, started again whenever it died."""

    def __init__(self, **variables: str) -> None:
        """`variables` are further ones of its environment."""
        self.deaths = 0
        self._environment = environment(**variables)
        self._start()

    def look(self) -> None:
        """Start it again if it died."""
        if self._process.poll() is not None:
            assert self._process.returncode == -signal.SIGKILL
            self.deaths += 1
            self._watcher.stop()
            self._start()

    def stop(self) -> None:
        """End it."""
        self._watcher.stop()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "stenolog", "worker"], env=self._environment)
        self._watcher = Watcher(self._process.pid)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder with an installed package that brings the recogniser `deadly`."""
    (tmp_path / "deadly.py").write_text(RECOGNISER)
    metadata = tmp_path / "deadly-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[stenolog.recognisers]\ndeadly = deadly:Deadly\n")
    return tmp_path


@pytest.fixture
def workers(plugin: Path, redis_url: str) -> Iterator[Workers]:
    """A worker with that recogniser."""
    found = Workers(
        REDIS_URL=redis_url, STENOLOG_ENGINE="deadly", STENOLOG_PARTITIONS=str(PARTITIONS), STENOLOG_LEASE_MS="500",
        STENOLOG_DATA_DIR=str(plugin / "data"), PYTHONPATH=f"{ROOT}:{plugin}",
    )  # fmt: skip
    yield found
    found.stop()


async def set_aside(session: Session, deployment: Deployment) -> list[list[bytes]]:
    """What stands in the list of runs set aside in a session's partition."""
    return [fields for _, fields in await deployment.server.execute(
        "XRANGE", session.keys.partition.set_aside, "-", "+")]


async def test_a_session_that_kills_its_workers_is_set_aside(redis_url: str, workers: Workers) -> None:
    """SAFE-3: after three workers and a process of its own died of a session it is set aside; its neighbour goes on."""
    async with Deployment(redis_url) as deployment:
        deadly = await deployment.spoken(Story(talk(DEADLY_RATE_HZ), DEADLY_RATE_HZ))
        well = await deployment.spoken(Story(np.roll(talk(), 8_000, axis=0)))

        async def look() -> bool:
            workers.look()
            return bool(await set_aside(deadly, deployment)) and await well.has_ended()

        await eventually_async(look, TIMEOUT_S)
        [fields] = await set_aside(deadly, deployment)
        assert fields[1] == deadly.run.member.encode()
        assert b"killing workers" in fields[3]
        assert workers.deaths == 3
        assert await deadly.finals() == 0
        assert await well.facts() == well.expected()
        late = await deployment.spoken(Story(talk()))
        await deployment.ended(late)
        assert workers.deaths == 3
