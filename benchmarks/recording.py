"""An hour of speech in a file, made while it is sent: the bundled sentences with pauses, in a loop."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import clips, speech
from benchmarks.wer import word_error_rate

BOUNDARY = "stenolog-benchmark"
PIECE_BYTES = 65_536
_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


class LoopedRecording:
    """A WAV of whole rounds of the loop, as a multipart form; never whole in memory."""

    def __init__(self, seconds: float) -> None:
        """So many rounds as come closest to `seconds`."""
        self._loop = speech.loop()
        self.loop_s = len(self._loop) / 2 / speech.RATE_HZ
        self.rounds = max(1, round(seconds / self.loop_s))
        self.seconds = self.rounds * self.loop_s
        self._data_bytes = self.rounds * len(self._loop)

    @property
    def content_type(self) -> str:
        """Of the form."""
        return f"multipart/form-data; boundary={BOUNDARY}"

    @property
    def form_bytes(self) -> int:
        """Length of the form."""
        return len(self._head()) + self._data_bytes + len(_TAIL)

    def pieces(self) -> Iterator[bytes]:
        """The form, piece by piece."""
        yield self._head()
        for _ in range(self.rounds):
            for start in range(0, len(self._loop), PIECE_BYTES):
                yield self._loop[start : start + PIECE_BYTES]
        yield _TAIL

    def word_error_rate(self, segments: Sequence[dict[str, Any]]) -> float:
        """Of the transcript, round by round, since a comparison's cost grows with the square of the length."""
        spoken = " ".join(clip.words for clip in clips.sentences())
        found: list[list[str]] = [[] for _ in range(self.rounds)]
        for segment in segments:
            middle_s = (segment["start"] + segment["end"]) / 2  # its start reaches into the pause before
            found[min(self.rounds - 1, int(middle_s / self.loop_s))].append(segment["text"])
        return word_error_rate((spoken, " ".join(texts)) for texts in found)

    def _head(self) -> bytes:
        form = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="recording.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        )
        rate, count = speech.RATE_HZ, self._data_bytes
        return form.encode() + struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + count, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", count
        )
