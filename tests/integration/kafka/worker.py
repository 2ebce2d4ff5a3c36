"""The example subscriber as a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.support.tree import ROOT
from tests.support.watcher import Watcher

SETTINGS = {
    # What the mock cluster can't do, and how many partitions it makes.
    "TOPIC_ALLOW_DECLARE": "false", "TOPIC_DISABLE_LEADER": "true", "TOPIC_PARTITIONS": "4",
}


class Subscriber:
    """``faust -A projections.kafka.subscriber worker``."""

    def __init__(self, url: str) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._output = Path(self._directory.name, "output")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("faust")), "--datadir", self._directory.name, "-A",
                 "projections.kafka.subscriber", "worker", "--without-web", "-l", "warn"],
                cwd=self._directory.name, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **SETTINGS, "STENOLOG_KAFKA_URL": url, "PYTHONPATH": str(ROOT)},
            )

        self._watcher = Watcher(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.stop()
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()

    def output(self) -> str:
        """All that it has said."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def lines(self, beginning: str) -> list[str]:
        """The rest of each line that begins so."""
        return [line.removeprefix(beginning).strip() for line in self.output().splitlines()
                if line.startswith(beginning)]
