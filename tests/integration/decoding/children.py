"""A decoder child run by itself: bytes in, samples and messages out."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from processor.decoding.child_protocol import Source, decode_source
from tests.support.tree import ROOT


@dataclass(frozen=True)
class Decoded:
    """A child's output."""

    status: int
    source: Source | None
    pcm: bytes
    messages: list[dict[str, Any]]

    @property
    def message(self) -> str:
        """Its failures, for a person."""
        return " ".join(one["message"] for one in self.messages if one["type"] == "failure")

    @property
    def samples(self) -> npt.NDArray[np.int16]:
        """The samples, shape (samples, channels)."""
        assert self.source is not None
        return np.frombuffer(self.pcm, "<i2").reshape(-1, self.source.channels)


def command(*options: str) -> list[str]:
    """The child's command line."""
    return [sys.executable, "-B", "-m", "processor.decoding", *options]


def decoded(data: bytes, *options: str, cuts: Iterable[int] = ()) -> Decoded:
    """A child's output for `data`, written in pieces that end at `cuts`."""
    child = subprocess.Popen(
        command(*options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, bufsize=0
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    outputs = [bytearray(), bytearray()]
    streams = (child.stdout, child.stderr)
    threads = [threading.Thread(target=_drain, args=pair) for pair in zip(streams, outputs, strict=True)]
    for thread in threads:
        thread.start()
    try:
        at = 0
        for end in sorted({cut for cut in cuts if 0 < cut < len(data)} | {len(data)}):
            child.stdin.write(data[at:end])
            at = end
    except BrokenPipeError:
        pass  # it has ended
    child.stdin.close()
    for thread in threads:
        thread.join()
    _, status, _ = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    line, _, pcm = bytes(outputs[0]).partition(b"\n")
    return Decoded(
        child.returncode, decode_source(line + b"\n") if line else None, pcm,
        [json.loads(one) for one in outputs[1].splitlines() if one.startswith(b"{")],
    )  # fmt: skip


def _drain(stream: Any, into: bytearray) -> None:  # noqa: ANN401 -- a pipe
    while piece := stream.read(65_536):
        into += piece
