"""`python -m processor.decoding`: a container on standard input, a line of JSON and PCM on standard output."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import IO, NamedTuple

from processor.decoding.child_protocol import (
    FAILURE_STATUS,
    SAMPLE_RATE_HZ,
    UNKNOWN_RESTART_POINT,
    Failure,
    RestartPoint,
    Source,
    decode_restart_point,
    encode_line,
)
from processor.decoding.child_streams import InputStream, OutputStream, SparseFile
from processor.decoding.containers import (
    HEAD_BYTES,
    MP3,
    MP4,
    SCAN_BYTES,
    WAV,
    Container,
    RefusedError,
    detect_container,
    has_mp4_index,
    mp3_duration_s,
    mp4_index_end,
    wav_duration_s,
)
from processor.decoding.layouts import AUTO, MIX, SPLIT, ChannelOptions
from processor.decoding.resource_limits import allow_cpu, confine
from processor.decoding.restart_points import RestartPointFinder

ALLOWANCE_S = 60
"""The CPU limit is raised after so much audio: rarely, and long before it matters."""


def main() -> int:
    """Decode until the end of the input; returns the exit status."""
    arguments = _arguments()
    confine(parent=arguments.parent or os.getppid(), file_bytes=arguments.max_spool_bytes + 1)
    output = OutputStream(1, 2 if arguments.messages else None)
    input_ = InputStream(0, output)
    try:
        cut_off = _decode(input_, output, arguments)
    except RefusedError as error:
        output.flush()
        return _report_failure(str(error), FAILURE_STATUS)
    except MemoryError:
        return _report_failure("needs too much memory to decode", FAILURE_STATUS)
    return _report_failure(cut_off, 0) if cut_off else 0


def _decode(input_: InputStream, output: OutputStream, arguments: argparse.Namespace) -> str:
    """Decode everything; returns why it ended early, if it did."""
    from processor.decoding.decoder import Decoder  # noqa: PLC0415 -- native libraries load within the limits

    if arguments.restart_point:
        opened = _open_restarted(input_, arguments.restart_point)
    else:
        opened = _open_complete(input_, arguments.max_spool_bytes)
    finder = None
    if arguments.restart_interval_bytes and isinstance(opened.file, InputStream | SparseFile):
        finder = RestartPointFinder(
            input_, opened.container, is_fragmented=opened.is_fragmented,
            interval_bytes=arguments.restart_interval_bytes, restart=opened.restart, on_point=output.send,
        )  # fmt: skip
    decoder = Decoder(
        opened.file, opened.container,
        ChannelOptions(arguments.layout, arguments.recorded, arguments.max_held_bytes, arguments.track),
        duration_s=opened.duration_s, finder=finder, restart=opened.restart,
    )  # fmt: skip
    allowed_s = 0

    def describe(source: Source) -> None:
        output.write(encode_line(source))

    def release(*_: object) -> None:
        output.write(decoder.release(describe))
        output.held_samples = 0
        output.report_consumed(input_.read_bytes)

    # The parent sends it while this process waits for input, so it interrupts no more than that.
    signal.signal(signal.SIGUSR1, release)
    for pcm in decoder.pcm(describe):
        output.write(pcm)
        output.held_samples = decoder.held_samples
        if decoder.decoded_samples > (allowed_s + ALLOWANCE_S) * SAMPLE_RATE_HZ:
            allowed_s += ALLOWANCE_S
            allow_cpu(allowed_s)
    output.flush()
    if not decoder.cut_off:
        return ""
    return f"ends after {decoder.decoded_samples / SAMPLE_RATE_HZ:.1f} s: {decoder.cut_off}"


class _Opened(NamedTuple):
    """The recording to be decoded."""

    file: InputStream | SparseFile | IO[bytes]
    container: Container
    duration_s: float | None = None
    is_fragmented: bool = False
    restart: RestartPoint | None = None


def _open_complete(input_: InputStream, max_spool_bytes: int) -> _Opened:
    """Open a file at its first byte."""
    container = detect_container(head := input_.peek(HEAD_BYTES))
    if container != MP4:
        if container == WAV:
            return _Opened(input_, container, wav_duration_s(head))
        return _Opened(input_, container, mp3_duration_s(input_.peek) if container == MP3 else None)
    index = _read_mp4_index(input_)
    if index:
        # Fragments follow, and the library would report the length of the first.
        is_fragmented = b"mvex" in index
        return _Opened(input_, container, 0.0 if is_fragmented else None, is_fragmented)
    spool = input_.spool(max_spool_bytes)
    if not has_mp4_index(spool):
        raise RefusedError("mp4 that is cut off: its index, which comes last, is missing")
    return _Opened(spool, container)


def _open_restarted(input_: InputStream, record: str) -> _Opened:
    """Open a file's beginning, followed by the rest of it from a restart point on."""
    restart = decode_restart_point(record)
    if restart is None:
        raise RefusedError(UNKNOWN_RESTART_POINT)
    if restart.end_bytes:
        input_.end_at(restart.head_bytes + max(0, restart.end_bytes - restart.offset_bytes))
    if restart.pts is None:
        return _Opened(input_, restart.container, 0.0, restart.container == MP4, restart)
    file = SparseFile(input_, head_bytes=restart.head_bytes, offset_bytes=restart.offset_bytes)
    return _Opened(file, restart.container, 0.0, is_fragmented=False, restart=restart)


def _read_mp4_index(input_: InputStream) -> bytes:
    """Read an MP4 up to the end of its index, or a mebibyte of it; empty if the media comes first."""
    count = HEAD_BYTES
    while (found := mp4_index_end(head := input_.peek(count))) is None:
        if len(head) < count:
            return b""
        count *= 2
    return input_.peek(min(found, SCAN_BYTES))


def _report_failure(message: str, status: int) -> int:
    sys.stderr.buffer.write(encode_line(Failure(message=message)))
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m processor.decoding", description=__doc__)
    parser.add_argument("--layout", default=AUTO, choices=(AUTO, MIX, SPLIT), help="of two channels")
    parser.add_argument("--recorded", action="store_true", help="judge the layout by a minute of speech")
    parser.add_argument("--max-held-bytes", type=int, default=0, help="of input, by which the layout is judged")
    parser.add_argument("--track", type=int, default=-1, help="number of the audio track, from 0; -1: the default one")
    parser.add_argument("--max-spool-bytes", type=int, default=512 << 20, help="longest file kept on disk")
    parser.add_argument("--restart-point", default="", help="from an earlier child's message, to begin at")
    parser.add_argument("--restart-interval-bytes", type=int, default=0, help="of input between points")
    parser.add_argument("--messages", action="store_true", help="report on standard error when input runs dry")
    parser.add_argument("--parent", type=int, default=0, help="process id; end unless that is the parent")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
