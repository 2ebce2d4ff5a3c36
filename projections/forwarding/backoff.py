"""Pauses before an event is tried again, and when it is given up. Pure."""

from __future__ import annotations

from typing import NamedTuple

BASE_S = 0.25
"""Most first failures are over by then: a throttled call, a connection that was closed."""

CAP_S = 30.0
"""A sink that was away for long hears of each run within half a minute of its return."""

_DOUBLINGS = 10  # 2 ** 10 * BASE_S is above the cap; without an end the power would overflow


class Failure(NamedTuple):
    """What is known of the event that a run stands at since it can't be forwarded."""

    event_id: str
    attempts: int
    first_s: float
    """When it failed first, on the forwarder's clock."""
    sent: frozenset[str] = frozenset()
    """Ids of events of the same fact that the sink has already."""


def delay_s(attempts: int, draw: float) -> float:
    """How long to wait after so many failures; `draw`, from 0 to 1, spreads the tries over all of it (full jitter)."""
    return draw * min(CAP_S, BASE_S * 2.0 ** min(attempts - 1, _DOUBLINGS))


def failed_again(before: Failure | None, event_id: str, now_s: float) -> Failure:
    """After one more failure of this event; one of another event starts anew."""
    if before is None or before.event_id != event_id:
        return Failure(event_id, 1, now_s)
    return before._replace(attempts=before.attempts + 1)
