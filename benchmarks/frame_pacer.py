"""One timer for all sockets of a load generator: frames paced in real time at little cost."""

import asyncio
import time
from typing import Protocol

SLOTS = 50
"""Turns of 2 ms: sessions spread over the 100 ms of a frame as independent speakers are, and a slot has some twenty."""


class Rider(Protocol):
    """Something that sends a frame each round."""

    first_turn: int
    last_turn: int

    def send_frame(self, number: int) -> None:
        """Send its frame of that number."""
        ...

    def finish(self) -> None:
        """Called instead of a frame, once, when its last turn is over."""
        ...


class Wheel:
    """Calls each slot's riders once a round, and remembers when it did."""

    def __init__(self, round_s: float) -> None:
        """A round lasts `round_s`."""
        self.times: list[list[float]] = [[] for _ in range(SLOTS)]
        """Per slot, when each of its turns was taken."""
        self.late_s: list[float] = []
        """How late each turn was, while it is asked for."""
        self.notes_lateness = False
        self._riders: list[list[Rider]] = [[] for _ in range(SLOTS)]
        self._step_s = round_s / SLOTS
        self._joined = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to turn."""
        self._due = time.perf_counter()
        self._slot = 0
        self._turn()

    def stop(self) -> None:
        """Stand still."""
        if self._handle is not None:
            self._handle.cancel()

    def join(self, rider: Rider) -> int:
        """Give a rider a slot; returns which."""
        slot = self._joined % SLOTS
        self._joined += 1
        rider.first_turn = len(self.times[slot])
        self._riders[slot].append(rider)
        return slot

    def turn_of(self, slot: int) -> int:
        """The number of the slot's next turn."""
        return len(self.times[slot])

    def _turn(self) -> None:
        while (late_s := time.perf_counter() - self._due) >= 0:
            if self.notes_lateness:
                self.late_s.append(late_s)
            self._take(self._slot)
            self._slot = (self._slot + 1) % SLOTS
            self._due += self._step_s
        self._handle = asyncio.get_running_loop().call_later(-late_s, self._turn)

    def _take(self, slot: int) -> None:
        times = self.times[slot]
        turn = len(times)
        times.append(time.perf_counter())
        over = False
        for rider in self._riders[slot]:
            if turn < rider.last_turn:
                rider.send_frame(turn - rider.first_turn)
            else:
                over = True
                rider.finish()
        if over:
            self._riders[slot] = [rider for rider in self._riders[slot] if turn < rider.last_turn]
