"""A recording whose middle is gone, for a demuxer that goes by an index: its beginning, and all from an offset on."""

from __future__ import annotations

import os

from processor.decoding.pipes import READ_BYTES, Incoming


class SparseFile:
    """What PyAV takes for a file in which it may seek, though only forwards beyond the gap."""

    def __init__(self, incoming: Incoming, *, head_bytes: int, offset_bytes: int) -> None:
        """Take `head_bytes` from `incoming`, and what follows for what the file holds from `offset_bytes` on."""
        self._incoming = incoming
        self._head = incoming.peek(head_bytes)
        while head_bytes > 0 and (piece := incoming.read(head_bytes)):
            head_bytes -= len(piece)
        self._gap_ends_at = self._comes_at = offset_bytes
        self._at = 0
        self.is_open = False
        """Until then nothing follows the beginning: a demuxer may look for more there, and must not use it up."""

    def readable(self) -> bool:
        """Always; PyAV asks."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there, though nothing may be there to read; -1 if asked for the end or the size, which nobody knows."""
        if whence not in {os.SEEK_SET, os.SEEK_CUR}:
            return -1
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def read(self, count: int) -> bytes:
        """At least one byte and at most `count`, zeros in the gap; none in what was read before, and at the end."""
        if self._at < len(self._head):
            piece = self._head[self._at : self._at + count]
        elif self._at < self._gap_ends_at:
            # Over a few kilobytes the library reads on instead of seeking, and throws them away.
            piece = bytes(min(count, self._gap_ends_at - self._at))
        elif not self.is_open or not self._is_reached():
            return b""
        else:
            piece = self._incoming.read(count)
            self._comes_at += len(piece)
        self._at += len(piece)
        return piece

    def _is_reached(self) -> bool:
        """Read up to where the next byte is wanted; False if it can't be had any more."""
        while self._comes_at < self._at:
            piece = self._incoming.read(min(READ_BYTES, self._at - self._comes_at))
            if not piece:
                return False
            self._comes_at += len(piece)
        return self._comes_at == self._at
