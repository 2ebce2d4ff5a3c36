"""What a sink takes and promises, and the events that it is given."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from eventlog.events import Fact, SessionOpened
from eventlog.keys import RunKeys
from eventlog.positions import Position
from projections.integration_events import Event, Kind


class Outgoing(NamedTuple):
    """One event on its way to a sink.

    Attributes:
        keys: The run it is of; always a live one.
        position: Of the fact that it tells of. (run, position, kind) name an event; its id is made of them.
        event: What is told.
    """

    keys: RunKeys
    position: Position
    event: Event


class Outcome(enum.Enum):
    """What became of an event."""

    SENT = "sent"
    """The sink has it, as far as the sink promises anything."""
    LATER = "later"
    """Not now: unreachable, throttled, or failed for a reason that may pass."""
    NEVER = "never"
    """Refused for a reason that no retry mends: straight to the dead letters."""
    OFF = "off"
    """Nothing is forwarded at present, and nobody wants it later."""


class Verdict(NamedTuple):
    """What became of one event, and why; `reason` never holds transcript text or a secret."""

    outcome: Outcome
    reason: str = ""


SENT = Verdict(Outcome.SENT)


class Sink(Protocol):
    """Somebody outside Redis who is told of events.

    Order: `send` gets the events of one run in order, several runs mixed; no later event of a run is handed in before
    all earlier ones were SENT, OFF or set aside, unless both are in the same call. A sink that fails at one event of a
    run answers LATER for the later ones of that run in the call, without sending them. Redelivery: an event may come
    again with the same id and body, also when it was SENT before: the position moves after the answer.
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
        """Which events it is told of at this fact of a session; usually none. Pure."""
        ...

    async def start(self) -> None:
        """Get ready; returns soon, and raises nothing for a sink that can't be reached now."""
        ...

    async def send(self, events: Sequence[Outgoing]) -> Sequence[Verdict]:
        """Tell it, and say what became of each, in order; off the event loop where it blocks. Raises nothing."""
        ...

    async def stop(self) -> None:
        """Free connections; safe to call twice, and before `start`."""
        ...
