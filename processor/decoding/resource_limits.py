"""Limits of a decoder child: native code that reads a hostile file must harm no other process."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

ADDRESS_SPACE_BYTES = 768 << 20
"""PyAV alone maps about 120 MiB, its decoders a few more; the rest is for big cover art and bad luck."""

OPEN_FILES = 32
"""Standard streams, the spool, and files that Python's imports open meanwhile."""

CPU_BASE_S = 20
"""For starting, and for a file without samples: a slow core needs less than 2 s."""

CPU_SHARE = 0.2
"""Of a second of CPU per second of audio on top; decoding takes about a hundredth."""

NICENESS = 5
"""Live sessions come first: a recording's decoder runs on the cores' spare time."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def confine(*, parent: int, file_bytes: int) -> None:
    """Bind this process to its limits, and to the life of the process `parent`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.nice(NICENESS)
    allow_cpu(0.0)
    if os.getppid() != parent:
        sys.exit("parent process is gone")


def allow_cpu(audio_s: float) -> None:
    """Allow as much CPU as `audio_s` of decoded audio may have taken; past it the system ends this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_BASE_S + int(audio_s * CPU_SHARE), hard))
