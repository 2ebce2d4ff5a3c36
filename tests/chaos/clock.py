"""Clocks that can be set: a process's own wall clock steps, the machine's and everybody else's stays."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def compiled(directory: Path) -> Path | None:
    """The library that processes preload, made in `directory`; None where there is no C compiler or no preloading."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "clock.so"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], capture_output=True, check=False
    )
    # macOS knows other names for all of this; there the faults of clocks are left out, and said to be.
    return library if made.returncode == 0 and Path("/proc").exists() else None


class Clock:
    """The wall clock of whoever is started with its variables."""

    def __init__(self, library: Path | None, file: Path) -> None:
        """Begin in step with the machine's; without a library it stays so."""
        self.step_ms = 0
        file.write_bytes(struct.pack("=q", 0))
        self._library = library
        self._name = file
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 8)

    @property
    def variables(self) -> dict[str, str]:
        """For the environment of the process."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._name)} if self._library else {}

    def step(self, by_ms: int) -> None:
        """Set it forward, or back if negative."""
        self.step_ms += by_ms
        self._page[:8] = struct.pack("=q", self.step_ms)

    def close(self) -> None:
        """Give the page back; the clock stays as it is."""
        self._page.close()
