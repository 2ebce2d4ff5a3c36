"""Makes one channel of two that carry the same, aligned by delay and polarity. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from processor.decoding.layouts import Judgement


class ChannelMixer:
    """Mixes interleaved samples in pieces of any size; gives as many as it takes, the last of them from `flush`."""

    def __init__(self, judgement: Judgement) -> None:
        """Align the second channel with the first as `judgement` says."""
        self._judgement = judgement
        self._start()

    _left: npt.NDArray[np.int16]
    _right: npt.NDArray[np.int16]

    def mix(self, pcm: bytes) -> bytes:
        """The samples of one channel that are known by now."""
        samples = np.frombuffer(pcm, "<i2").reshape(-1, 2)
        skipped = min(self._to_skip, len(samples))
        self._to_skip -= skipped
        self._left = np.concatenate([self._left, samples[:, 0]])
        self._right = np.concatenate([self._right, samples[skipped:, 1]])
        return self._mixed(min(len(self._left), len(self._right)))

    def flush(self) -> bytes:
        """The rest; samples that follow are mixed as another recording's."""
        missing = max(0, len(self._left) - len(self._right))
        self._right = np.concatenate([self._right, np.zeros(missing, np.int16)])
        rest = self._mixed(len(self._left))
        self._start()
        return rest

    def _start(self) -> None:
        delay = self._judgement.delay_samples
        self._to_skip = max(0, delay)
        self._left = np.zeros(0, np.int16)
        self._right = np.zeros(max(0, -delay), np.int16)

    def _mixed(self, count: int) -> bytes:
        left, right = (channel[:count].astype(np.int32) for channel in (self._left, self._right))
        self._left, self._right = self._left[count:], self._right[count:]
        both = left - right if self._judgement.is_inverted else left + right
        return np.trunc(both / 2).astype("<i2").tobytes()
