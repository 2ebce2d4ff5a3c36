"""One timer for all sockets of a load generator: frames paced in real time at little cost."""

import asyncio
import time
from typing import Protocol

SLOTS = 50
"""Slots of 2 ms: sessions spread over the 100 ms of a frame like independent speakers, some twenty in each."""


class PacedSender(Protocol):
    """Something that sends a frame each round."""

    first_turn: int
    last_turn: int

    def send_frame(self, number: int) -> None:
        """Send its frame of that number."""
        ...

    def finish(self) -> None:
        """Called instead of a frame, once, when its last turn is over."""
        ...


class FramePacer:
    """Calls each slot's senders once a round, and records the times."""

    def __init__(self, round_s: float) -> None:
        """A round lasts `round_s`."""
        self.times: list[list[float]] = [[] for _ in range(SLOTS)]
        """Per slot, when each of its turns was taken."""
        self.late_s: list[float] = []
        """How late each turn was, while lateness is recorded."""
        self.records_lateness = False
        self._senders: list[list[PacedSender]] = [[] for _ in range(SLOTS)]
        self._step_s = round_s / SLOTS
        self._joined = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._due = time.perf_counter()
        self._slot = 0
        self._turn()

    def stop(self) -> None:
        """End."""
        if self._handle is not None:
            self._handle.cancel()

    def join(self, sender: PacedSender) -> int:
        """Give a sender a slot; returns its number."""
        slot = self._joined % SLOTS
        self._joined += 1
        sender.first_turn = len(self.times[slot])
        self._senders[slot].append(sender)
        return slot

    def turn_of(self, slot: int) -> int:
        """The number of the slot's next turn."""
        return len(self.times[slot])

    def _turn(self) -> None:
        while (late_s := time.perf_counter() - self._due) >= 0:
            if self.records_lateness:
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
        for sender in self._senders[slot]:
            if turn < sender.last_turn:
                sender.send_frame(turn - sender.first_turn)
            else:
                over = True
                sender.finish()
        if over:
            self._senders[slot] = [sender for sender in self._senders[slot] if turn < sender.last_turn]
