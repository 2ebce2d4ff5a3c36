"""Workers whose recogniser kills its process over a certain session, started again as by a supervisor."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.commands import environment
from tests.support.deployment import PARTITIONS
from tests.support.tree import ROOT
from tests.support.watcher import Watcher

_RECOGNISER = """
import os, signal
from processor.recognisers.mock import MockRecogniser

class Deadly(MockRecogniser):
    def recognise(self, clips):
        if any(clip.{clip} for clip in clips):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().recognise(clips)
"""


class Workers:
    """`stenolog worker` with the mock recogniser, started again whenever it died."""

    def __init__(self, redis_url: str, directory: Path, *, clip: str) -> None:
        """Work on `redis_url`; a clip of which the expression `clip` is true kills its recogniser's process."""
        _install(directory, clip)
        self.deaths = 0
        self.variables = {
            "REDIS_URL": redis_url, "STENOLOG_ENGINE": "deadly", "STENOLOG_PARTITIONS": str(PARTITIONS),
            "STENOLOG_LEASE_MS": "500", "STENOLOG_DATA_DIR": str(directory / "data"),
            "PYTHONPATH": f"{ROOT}:{directory}",
        }  # fmt: skip
        self._start()

    def look(self) -> None:
        """Start it again if it died."""
        if self._process.poll() is not None:
            assert self._process.returncode == -signal.SIGKILL
            self.deaths += 1
            self._watcher.stop()
            self._start()

    def upgrade(self, **variables: str) -> None:
        """Another build in its place."""
        self.stop()
        self.variables |= variables
        self._start()

    def stop(self) -> None:
        """End it."""
        self._watcher.stop()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-m", "stenolog", "worker"]
        self._process = subprocess.Popen(command, env=environment(**self.variables))
        self._watcher = Watcher(self._process.pid)


def _install(directory: Path, clip: str) -> None:
    """A folder with an installed package that brings the recogniser `deadly`."""
    (directory / "deadly.py").write_text(_RECOGNISER.format(clip=clip))
    metadata = directory / "deadly-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[stenolog.recognisers]\ndeadly = deadly:Deadly\n")
