"""Recognisers that a test blocks and makes fail: real objects of the protocol, called in real threads."""

import threading
from collections.abc import Callable, Sequence

from processor.recognisers import Clip, Recognition
from processor.recognisers.mock import MockRecogniser

# Long against any wait in a test, short against pytest's own bound: a test that forgot to open the gate ends.
STUCK_S = 20.0


class HeldRecogniser:
    """The mock recogniser behind a gate, which notes its calls.

    Attributes:
        calls: The clips of each call, in order, noted as it begins.
        gate: No call returns while this is not set.
        fail: Asked before a call returns; may raise.
        most_at_once: The most calls that were inside at the same time.
    """

    name = "held"

    def __init__(self, *, max_batch: int = 4, max_parallel: int = 1, is_open: bool = False) -> None:
        """Begin with the gate open or closed."""
        self.max_batch = max_batch
        self.max_parallel = max_parallel
        self.languages: frozenset[str] = frozenset()
        self.model = ""
        self.calls: list[list[Clip]] = []
        self.gate = threading.Event()
        self.fail: Callable[[Sequence[Clip]], None] = lambda _clips: None
        self.most_at_once = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._mock = MockRecogniser()
        if is_open:
            self.gate.set()

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Wait for the gate, then return the mock's text."""
        with self._lock:
            self.calls.append(list(clips))
            self._inside += 1
            self.most_at_once = max(self.most_at_once, self._inside)
        try:
            assert self.gate.wait(STUCK_S), "the test never opened the gate"
            self.fail(clips)
            return self._mock.recognise(clips)
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        """Open the gate for waiting calls."""
        self.gate.set()
