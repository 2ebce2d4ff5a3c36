"""A child's input and output: bytes as they arrive, and samples written before it waits for more."""

from __future__ import annotations

import os
import select
import tempfile
from typing import IO

import msgspec

from processor.decoding.child_protocol import InputConsumed, encode_line
from processor.decoding.containers import RefusedError

READ_BYTES = 65_536
"""A pipe holds as much by default."""

RECENT_BYTES = 262_144
"""Of the input, kept for a look back: more than an Ogg page, and than lies between a cluster and its audio in most
films."""

FLUSH_BYTES = 65_536
"""Samples written at once unless the input runs dry before: two seconds of mono."""


class InputStream:
    """Standard input as the file that PyAV reads: no seeking, short reads as the bytes arrive."""

    def __init__(self, source: int, output: OutputStream) -> None:
        """Read the descriptor `source`; `output` is flushed before every wait."""
        self._source = source
        self._output = output
        self._peeked = bytearray()
        self._has_ended = False
        self._recent = bytearray()
        self._end_bytes = 0
        self.read_bytes = 0

    def readable(self) -> bool:
        """Always; PyAV asks."""
        return True

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without consuming them; fewer only at the end of the input."""
        while len(self._peeked) < count and (piece := self._receive(READ_BYTES)):
            self._peeked += piece
        return bytes(self._peeked[:count])

    def read(self, count: int) -> bytes:
        """At least one byte and at most `count`; none at the end of the input."""
        if self._peeked:
            piece = bytes(self._peeked[:count])
            del self._peeked[:count]
            return piece
        return self._receive(count)

    def recent(self, start: int, end: int) -> bytes:
        """See `restart_points.RecentInput`."""
        first = self.read_bytes - len(self._recent)
        return bytes(self._recent[start - first : max(0, end - first)]) if start >= first else b""

    def recent_before(self, marker: bytes, end: int) -> int:
        """See `restart_points.RecentInput`."""
        first = self.read_bytes - len(self._recent)
        found = self._recent.rfind(marker, 0, max(0, end - first))
        return -1 if found < 0 else found + first

    def end_at(self, end_bytes: int) -> None:
        """Return so many bytes of the input, and skip all that follow them."""
        self._end_bytes = end_bytes

    def spool(self, limit_bytes: int) -> IO[bytes]:
        """All of the input in an unnamed file, for a container that cannot be read from the front.

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
        while not self._has_ended:
            if not self._end_bytes:
                return self._next(count)
            if self.read_bytes < self._end_bytes:
                return self._next(min(count, self._end_bytes - self.read_bytes))
            self._next(READ_BYTES)  # the decoder's last samples come out at the input's own end, as without a bound
        return b""

    def _next(self, count: int) -> bytes:
        if not select.select([self._source], [], [], 0)[0]:
            self._output.report_consumed(self.read_bytes)
        piece = os.read(self._source, count)
        self.read_bytes += len(piece)
        self._recent += piece
        if len(self._recent) > 2 * RECENT_BYTES:
            del self._recent[:-RECENT_BYTES]
        self._has_ended = not piece
        return piece


class OutputStream:
    """Standard output, in large pieces while input arrives, at once when it does not."""

    def __init__(self, target: int, messages: int | None) -> None:
        """Write to the descriptor `target`; send messages to the descriptor `messages`, if given."""
        self._target = target
        self._messages = messages
        self._buffer = bytearray()
        self._written_bytes = 0
        self.held_samples = 0
        """Decoded and not written yet."""

    def write(self, data: bytes) -> None:
        """Buffer `data`."""
        self._buffer += data
        if len(self._buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffer."""
        _write_all(self._target, self._buffer)
        self._written_bytes += len(self._buffer)
        self._buffer = bytearray()

    def send(self, message: msgspec.Struct) -> None:
        """Send a message beside the samples."""
        if self._messages is not None:
            _write_all(self._messages, encode_line(message))

    def report_consumed(self, read_bytes: int) -> None:
        """Write the buffer, and report that it ends with the last sample of `read_bytes`."""
        self.flush()
        self.send(InputConsumed(
            read_bytes=read_bytes, written_bytes=self._written_bytes, held_samples=self.held_samples
        ))  # fmt: skip


class SparseFile:
    """A recording whose middle is gone, for a demuxer that seeks by an index: its beginning, and all from an offset on.

    PyAV takes it for a file in which it may seek, though only forwards beyond the gap.
    """

    def __init__(self, input_: InputStream, *, head_bytes: int, offset_bytes: int) -> None:
        """Read `head_bytes` from `input_`; the bytes that follow them there stand at `offset_bytes` of the file."""
        self._input_ = input_
        self._head = input_.peek(head_bytes)
        while head_bytes > 0 and (piece := input_.read(head_bytes)):
            head_bytes -= len(piece)
        self._gap_ends_at = self._input_at = offset_bytes
        self._at = 0
        self.is_open = False
        """False hides all bytes after the beginning: a demuxer may look for more there, and must not use them up."""

    def readable(self) -> bool:
        """Always; PyAV asks."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there, even into the gap; -1 if asked for the end or the size, which are unknown."""
        if whence not in {os.SEEK_SET, os.SEEK_CUR}:
            return -1
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def read(self, count: int) -> bytes:
        """At least one byte and at most `count`, zeros in the gap; none in a part read before, and at the end."""
        if self._at < len(self._head):
            piece = self._head[self._at : self._at + count]
        elif self._at < self._gap_ends_at:
            # Over a few kilobytes the library reads on instead of seeking, and throws the bytes away.
            piece = bytes(min(count, self._gap_ends_at - self._at))
        elif not self.is_open or not self._is_reached():
            return b""
        else:
            piece = self._input_.read(count)
            self._input_at += len(piece)
        self._at += len(piece)
        return piece

    def _is_reached(self) -> bool:
        """Read up to the next wanted byte; False if it is not available any more."""
        while self._input_at < self._at:
            piece = self._input_.read(min(READ_BYTES, self._at - self._input_at))
            if not piece:
                return False
            self._input_at += len(piece)
        return self._input_at == self._at


def _write_all(target: int, data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
