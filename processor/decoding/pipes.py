"""A child's input and output: bytes as they come, samples out before it waits for more."""

from __future__ import annotations

import os
import select
import tempfile
from typing import IO

import msgspec

from processor.decoding.messages import Mark, RefusedError, encode_line

READ_BYTES = 65_536
"""A pipe holds as much by default."""

RECENT_BYTES = 262_144
"""Of the input that are kept for a look back: more than an Ogg page, and than what lies between a cluster and its audio
in most films."""

FLUSH_BYTES = 65_536
"""Samples that are written at once when input doesn't run dry before: two seconds of mono."""


class Incoming:
    """Standard input as the file that PyAV reads: no seeking, short reads as the bytes come."""

    def __init__(self, source: int, outgoing: Outgoing) -> None:
        """Read the descriptor `source`; what `outgoing` has gathered goes out before every wait."""
        self._source = source
        self._outgoing = outgoing
        self._ahead = bytearray()
        self._ended = False
        self._recent = bytearray()
        self._end_bytes = 0
        self.read_bytes = 0

    def readable(self) -> bool:
        """Always; PyAV asks."""
        return True

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without consuming them; fewer only at the end of the input."""
        while len(self._ahead) < count and (piece := self._receive(READ_BYTES)):
            self._ahead += piece
        return bytes(self._ahead[:count])

    def read(self, count: int) -> bytes:
        """At least one byte and at most `count`; none at the end of the input."""
        if self._ahead:
            piece = bytes(self._ahead[:count])
            del self._ahead[:count]
            return piece
        return self._receive(count)

    def recent(self, start: int, end: int) -> bytes:
        """See `points.Recent`."""
        first = self.read_bytes - len(self._recent)
        return bytes(self._recent[start - first : max(0, end - first)]) if start >= first else b""

    def recent_before(self, marker: bytes, end: int) -> int:
        """See `points.Recent`."""
        first = self.read_bytes - len(self._recent)
        found = self._recent.rfind(marker, 0, max(0, end - first))
        return -1 if found < 0 else found + first

    def end_at(self, end_bytes: int) -> None:
        """Hand out so many bytes of the input, and pass over whatever follows them."""
        self._end_bytes = end_bytes

    def spooled(self, limit_bytes: int) -> IO[bytes]:
        """All of the input in an unnamed file, for a container that can't be read from the front.

        Raises:
            RefusedError: if it is longer than `limit_bytes`.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- the process's life is the file's
        size = 0
        while piece := self.read(READ_BYTES):
            size += len(piece)
            if size > limit_bytes:
                raise RefusedError(f"longer than {limit_bytes >> 20} MiB with its index at the end")
            file.write(piece)
        file.seek(0)
        return file

    def _receive(self, count: int) -> bytes:
        while not self._ended:
            if not self._end_bytes:
                return self._next(count)
            if self.read_bytes < self._end_bytes:
                return self._next(min(count, self._end_bytes - self.read_bytes))
            self._next(READ_BYTES)  # what is held back comes out with the input's own end, as it does without a bound
        return b""

    def _next(self, count: int) -> bytes:
        if not select.select([self._source], [], [], 0)[0]:
            self._outgoing.mark(self.read_bytes)
        piece = os.read(self._source, count)
        self.read_bytes += len(piece)
        self._recent += piece
        if len(self._recent) > 2 * RECENT_BYTES:
            del self._recent[:-RECENT_BYTES]
        self._ended = not piece
        return piece


class Outgoing:
    """Standard output, in large pieces while there is input, at once when there is none."""

    def __init__(self, target: int, marks: int | None) -> None:
        """Write to the descriptor `target`; say on `marks`, if given, what all the input so far came to."""
        self._target = target
        self._marks = marks
        self._gathered = bytearray()
        self._written_bytes = 0

    def write(self, data: bytes) -> None:
        """Gather `data`."""
        self._gathered += data
        if len(self._gathered) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered."""
        _write_all(self._target, self._gathered)
        self._written_bytes += len(self._gathered)
        self._gathered = bytearray()

    def tell(self, message: msgspec.Struct) -> None:
        """Say something beside the samples."""
        if self._marks is not None:
            _write_all(self._marks, encode_line(message))

    def mark(self, read_bytes: int) -> None:
        """Write what is gathered, and say that it is all that came of `read_bytes`."""
        self.flush()
        self.tell(Mark(read_bytes=read_bytes, written_bytes=self._written_bytes))


def _write_all(target: int, data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
