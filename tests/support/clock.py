"""A clock that tests set."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Time in seconds that passes when a test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        """The time now."""
        return self.now_s
