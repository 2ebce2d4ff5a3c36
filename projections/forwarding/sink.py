"""The contract of a sink: the events that it takes, and the result that it gives for each."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from eventlog.events import Fact, SessionOpened
from projections.integration_events import Event, Kind


class Outcome(enum.Enum):
    """The ways in which a delivery of an event ends."""

    SENT = "sent"
    """The sink has it, as far as the sink promises anything."""
    RETRY = "retry"
    """Not now: unreachable, throttled, or failed for a reason that may pass."""
    REJECTED = "rejected"
    """Refused for a reason that no retry removes: straight to the dead letters."""
    SKIPPED = "skipped"
    """The sink is off, or has no subscriber: nothing is sent now, nor kept for later."""


class Result(NamedTuple):
    """What a delivery led to for one event, and why; `reason` never holds transcript text or a secret."""

    outcome: Outcome
    reason: str = ""


SENT = Result(Outcome.SENT)


class Sink(Protocol):
    """A destination outside Redis.

    Order: `send` gets the events of one session in order, several sessions mixed; no later event of a session is handed
    in before all earlier ones were SENT, SKIPPED or dead-lettered, unless both are in the same call. A sink that fails
    at one event of a session answers RETRY for the later ones of that session in the call, without sending them. Only a
    session's live run makes events. Redelivery: an event may come again with the same id and body, also when it was
    SENT before: the position moves after the answer.
    """

    @property
    def name(self) -> str:
        """One of `eventlog.keys.SINKS`: the consumer group, and part of the position's key."""
        ...

    @property
    def most_events(self) -> int:
        """How many events one call takes."""
        ...

    @property
    def most_calls(self) -> int:
        """How many calls at once are of any use."""
        ...

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """The events that the sink gets of this fact of a session; usually none. Pure."""
        ...

    async def start(self) -> None:
        """Get ready; returns soon, and raises nothing for a sink that can't be reached now."""
        ...

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """Deliver them, and give the result of each, in order; off the event loop where it blocks. Raises nothing."""
        ...

    async def stop(self) -> None:
        """Free connections; safe to call twice, and before `start`."""
        ...
