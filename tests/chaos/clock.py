"""Adjustable clocks: one process's wall clock steps, and every other clock of the machine stays."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def compiled(directory: Path) -> Path | None:
    """Compile the library that processes preload into `directory`; None without a C compiler or preloading."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "clock.so"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], capture_output=True, check=False
    )
    # macOS has other names for all of this; clock faults are left out there, and the output says so.
    return library if made.returncode == 0 and Path("/proc").exists() else None


class Clock:
    """The wall clock of a process that starts with its variables."""

    def __init__(self, library: Path | None, file: Path) -> None:
        """Start in step with the machine's clock; without a library it stays in step."""
        self.step_ms = 0
        file.write_bytes(struct.pack("=q", 0))
        self._library = library
        self._name = file
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 8)

    @property
    def variables(self) -> dict[str, str]:
        """Variables for the environment of the process."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._name)} if self._library else {}

    def step(self, by_ms: int) -> None:
        """Step it forward, or back if negative."""
        self.step_ms += by_ms
        self._page[:8] = struct.pack("=q", self.step_ms)

    def close(self) -> None:
        """Unmap the page; the clock keeps its step."""
        self._page.close()
