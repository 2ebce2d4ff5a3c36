"""`python -m processor.decoding`: a container on standard input, a line of JSON and PCM on standard output."""

from __future__ import annotations

import argparse
import os
import sys
from typing import IO, NamedTuple

from processor.decoding.container_sniffer import (
    HEAD_BYTES,
    MP3,
    MP4,
    SCAN_BYTES,
    WAV,
    Kind,
    has_index,
    index_end,
    sniff,
    wav_duration_s,
)
from processor.decoding.messages import SAMPLE_RATE_HZ, TROUBLE_STATUS, RefusedError, Trouble, encode_line
from processor.decoding.mp3 import mp3_duration_s
from processor.decoding.pipes import Incoming, Outgoing
from processor.decoding.resource_limits import allow_cpu, confine
from processor.decoding.restart_points import UNKNOWN_RECORD, Restart, decode_restart
from processor.decoding.seek_points import SeekPoints
from processor.decoding.sparse_file import SparseFile

ALLOWANCE_S = 60
"""The CPU limit is raised after so much audio: rarely, and long before it matters."""


def main() -> int:
    """Decode until the end of the input; the exit status."""
    arguments = _arguments()
    confine(parent=arguments.parent or os.getppid(), file_bytes=arguments.max_spool_bytes + 1)
    outgoing = Outgoing(1, 2 if arguments.marks else None)
    incoming = Incoming(0, outgoing)
    try:
        cut_off = _decode(incoming, outgoing, arguments)
    except RefusedError as error:
        outgoing.flush()
        return _told(str(error), TROUBLE_STATUS)
    except MemoryError:
        return _told("needs too much memory to decode", TROUBLE_STATUS)
    return _told(cut_off, 0) if cut_off else 0


def _decode(incoming: Incoming, outgoing: Outgoing, arguments: argparse.Namespace) -> str:
    """Decode everything; why it ended early, if it did."""
    from processor.decoding.decoder import Decoder  # noqa: PLC0415 -- native libraries load within the limits

    opened = _restarted(incoming, arguments.restart) if arguments.restart else _begun(incoming, arguments.max_spool_bytes)
    points = None
    if arguments.restart_bytes and isinstance(opened.file, Incoming | SparseFile):
        points = SeekPoints(
            incoming, opened.kind, is_fragmented=opened.is_fragmented, interval_bytes=arguments.restart_bytes,
            restart=opened.restart, on_point=outgoing.tell,
        )  # fmt: skip
    decoder = Decoder(
        opened.file, opened.kind, channels=arguments.channels, duration_s=opened.duration_s, points=points,
        restart=opened.restart,
    )  # fmt: skip
    allowed_s = 0
    for pcm in decoder.pcm(lambda source: outgoing.write(encode_line(source))):
        outgoing.write(pcm)
        if decoder.decoded_samples > (allowed_s + ALLOWANCE_S) * SAMPLE_RATE_HZ:
            allowed_s += ALLOWANCE_S
            allow_cpu(allowed_s)
    outgoing.flush()
    if not decoder.cut_off:
        return ""
    return f"ends after {decoder.decoded_samples / SAMPLE_RATE_HZ:.1f} s: {decoder.cut_off}"


class _Opened(NamedTuple):
    """What is to be decoded."""

    file: Incoming | SparseFile | IO[bytes]
    kind: Kind
    duration_s: float | None = None
    is_fragmented: bool = False
    restart: Restart | None = None


def _begun(incoming: Incoming, max_spool_bytes: int) -> _Opened:
    """A file from its first byte on."""
    kind = sniff(head := incoming.peek(HEAD_BYTES))
    if kind != MP4:
        duration_s = wav_duration_s(head) if kind == WAV else mp3_duration_s(incoming.peek) if kind == MP3 else None
        return _Opened(incoming, kind, duration_s)
    index = _index(incoming)
    if index:
        # Fragments follow, and the library would tell the length of the first.
        is_fragmented = b"mvex" in index
        return _Opened(incoming, kind, 0.0 if is_fragmented else None, is_fragmented)
    spool = incoming.spooled(max_spool_bytes)
    if not has_index(spool):
        raise RefusedError("mp4 that is cut off: its index, which comes last, is missing")
    return _Opened(spool, kind)


def _restarted(incoming: Incoming, record: str) -> _Opened:
    """A file's beginning, and then the rest of it from a restart point on."""
    restart = decode_restart(record)
    if restart is None:
        raise RefusedError(UNKNOWN_RECORD)
    if restart.end_bytes:
        incoming.end_at(restart.head_bytes + max(0, restart.end_bytes - restart.offset_bytes))
    if restart.pts is None:
        return _Opened(incoming, restart.kind, 0.0, restart.kind == MP4, restart)
    file = SparseFile(incoming, head_bytes=restart.head_bytes, offset_bytes=restart.offset_bytes)
    return _Opened(file, restart.kind, 0.0, is_fragmented=False, restart=restart)


def _index(incoming: Incoming) -> bytes:
    """The beginning of an MP4 up to the end of its index, or a mebibyte of it; empty if the media comes first."""
    count = HEAD_BYTES
    while (found := index_end(head := incoming.peek(count))) is None:
        if len(head) < count:
            return b""
        count *= 2
    return incoming.peek(min(found, SCAN_BYTES))


def _told(message: str, status: int) -> int:
    sys.stderr.buffer.write(encode_line(Trouble(message=message)))
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m processor.decoding", description=__doc__)
    parser.add_argument("--channels", type=int, default=0, choices=(0, 1, 2), help="to give; 0: two if they differ")
    parser.add_argument("--max-spool-bytes", type=int, default=512 << 20, help="longest file kept on disk")
    parser.add_argument("--restart", default="", help="a point, as told by an earlier one, to go on from")
    parser.add_argument("--restart-bytes", type=int, default=0, help="tell a point on standard error so often")
    parser.add_argument("--marks", action="store_true", help="say on standard error when more input is waited for")
    parser.add_argument("--parent", type=int, default=0, help="process id; end if that isn't the parent any more")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
