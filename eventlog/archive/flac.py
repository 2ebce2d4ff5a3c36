"""PCM to FLAC and back, bit by bit, in any portions. PyAV is imported on first use: some 100 MB of libraries."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eventlog.archive.manifest import DamagedArchiveError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

FRAME_SAMPLES = 4096
"""Per frame, in any portions: the same samples make the same file. FLAC's own encoder takes as many."""

_SAMPLE_BYTES = 2
_LAYOUTS = {1: "mono", 2: "stereo"}  # no session has more channels


class FlacEncoder:
    """Encodes the audio of one part; it keeps the encoded file and less than a frame of samples."""

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        """Take interleaved 16-bit little-endian samples of that rate."""
        self._rate_hz = sample_rate_hz
        self._layout = _LAYOUTS[channels]
        self._frame_bytes = FRAME_SAMPLES * _SAMPLE_BYTES * channels
        self._rest = b""
        self._samples = 0
        self._file = io.BytesIO()
        import av  # noqa: PLC0415 - see the module's docstring

        self._frame_type = av.AudioFrame
        self._container = av.open(self._file, "w", format="flac")
        stream: AudioStream = self._container.add_stream("flac", rate=sample_rate_hz)
        stream.layout, stream.format = self._layout, "s16"
        self._stream = stream

    def add(self, pcm: bytes) -> None:
        """Encode more samples."""
        pcm = self._rest + pcm
        whole_bytes = len(pcm) - len(pcm) % self._frame_bytes
        for first in range(0, whole_bytes, self._frame_bytes):
            self._encode(pcm[first : first + self._frame_bytes])
        self._rest = pcm[whole_bytes:]

    def finish(self) -> bytes:
        """Return the file; empty if it has no sample."""
        if self._rest:
            self._encode(self._rest)
        if not self._samples:
            return b""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()

    def _encode(self, pcm: bytes) -> None:
        import numpy as np  # noqa: PLC0415 - as PyAV

        samples = np.frombuffer(pcm, "<i2").reshape(1, -1)
        frame = self._frame_type.from_ndarray(samples, format="s16", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate_hz, self._samples
        self._samples += frame.samples
        self._container.mux(self._stream.encode(frame))


def decode_flac(content: bytes) -> Iterator[bytes]:
    """Yield the samples of a file, the same that were encoded, a frame at a time.

    Raises:
        DamagedArchiveError: if it is no complete FLAC file.
    """
    import av  # noqa: PLC0415 - see the module's docstring

    samples = 0
    try:
        with contextlib.closing(av.open(io.BytesIO(content), "r", format="flac")) as container:
            for frame in container.decode(audio=0):
                if frame.format.name != "s16":
                    raise DamagedArchiveError("an audio file holds samples of another format")
                length = frame.samples * frame.layout.nb_channels * _SAMPLE_BYTES
                samples += frame.samples
                yield bytes(memoryview(frame.planes[0])[:length])
    except (av.FFmpegError, IndexError) as error:
        raise DamagedArchiveError("an audio file can't be decoded") from error
    if not samples:
        raise DamagedArchiveError("an audio file holds no audio")


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of `content`, hexadecimal."""
    return hashlib.sha256(content).hexdigest()
