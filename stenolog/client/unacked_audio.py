"""Audio that a client has sent or is about to send, kept until the server has acked it."""

from collections import deque


class UnackedAudioError(Exception):
    """The server asks for audio that it had acked before, or that never existed."""


class UnackedAudio:
    """Blocks of PCM by position, in samples per channel; drops acked ones, can send the others again."""

    def __init__(self, frame_bytes: int) -> None:
        """Start empty; `frame_bytes` is the size of one sample of all channels."""
        self._frame_bytes = frame_bytes
        self._blocks: deque[bytes] = deque()
        self._first = 0  # position before the first block
        self._sent = 0  # how many of the blocks were sent on the present connection
        self.end_samples = 0
        """Position after the last block."""
        self.acked_samples = 0
        """Position up to which the server has everything."""

    @property
    def unacked_samples(self) -> int:
        """How much is not acked yet, in samples."""
        return self.end_samples - self.acked_samples

    def push(self, pcm: bytes) -> None:
        """Append audio."""
        self._blocks.append(pcm)
        self.end_samples += len(pcm) // self._frame_bytes

    def next_unsent(self) -> bytes | None:
        """The next block to send, which then counts as sent; None after the last."""
        if self._sent == len(self._blocks):
            return None
        self._sent += 1
        return self._blocks[self._sent - 1]

    def ack(self, offset_samples: int) -> None:
        """Forget the blocks that lie wholly before an offset."""
        self.acked_samples = max(self.acked_samples, offset_samples)
        while self._blocks:
            after = self._first + len(self._blocks[0]) // self._frame_bytes
            if after > self.acked_samples:
                break
            self._blocks.popleft()
            self._first = after
            self._sent = max(0, self._sent - 1)

    def rewind(self, offset_samples: int) -> None:
        """Prepare to send everything from an offset again, on a new connection.

        Raises:
            UnackedAudioError: if the offset lies outside of the kept blocks.
        """
        if not self._first <= offset_samples <= self.end_samples:
            raise UnackedAudioError(
                f"the server resumes at {offset_samples}, but the samples kept are {self._first} to {self.end_samples}"
            )
        self.ack(offset_samples)
        if self._blocks and offset_samples > self._first:
            cut = (offset_samples - self._first) * self._frame_bytes
            self._blocks[0] = self._blocks[0][cut:]
            self._first = offset_samples
        self._sent = 0
