"""Sinks of the tests: real ones, that keep the events that they take, and fail as a test sets."""

import asyncio
from collections.abc import Callable, Sequence

from eventlog.events import Fact, SessionOpened
from eventlog.positions import SEALED, Position
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event, Kind, transcript_kinds

Answer = Callable[[Event], Result]


def take(_: Event) -> Result:
    """Take everything."""
    return SENT


def position(event: Event) -> str:
    """The position of the fact that an event is made of."""
    return str(Position(event.body["utterance"] + 1, 0) if event.kind is Kind.UTTERANCE else SEALED)


class Recorder:
    """Answers by `answer`; after the first RETRY it takes no later event of that session, as the contract asks."""

    name = "webhooks"
    most_events = 4
    most_calls = 3

    def __init__(
        self, answer: Answer = take, kinds: Callable[[SessionOpened, Fact], Sequence[Kind]] = transcript_kinds
    ) -> None:
        """Get events of `kinds`."""
        self.answer = answer
        self._kinds = kinds
        self.taken: list[Event] = []
        self.requests: list[Event] = []
        self.under_way = 0
        self.starts = 0
        self.stops = 0
        self.gate = asyncio.Event()
        """Calls wait for it."""
        self.gate.set()

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """See `Sink`."""
        return self._kinds(opened, fact)

    async def start(self) -> None:
        """See `Sink`."""
        self.starts += 1

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """See `Sink`."""
        assert len(events) <= self.most_events
        self.under_way += 1
        assert self.under_way <= self.most_calls
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        self.requests += events
        late: set[str] = set()
        results = []
        for event in events:
            result = Result(Outcome.RETRY, "after one") if event.session_id in late else self.answer(event)
            if result.outcome is Outcome.RETRY:
                late.add(event.session_id)
            elif result.outcome is Outcome.SENT:
                self.taken.append(event)
            results.append(result)
        return results

    async def stop(self) -> None:
        """See `Sink`."""
        self.stops += 1

    def of(self, session_id: str) -> list[str]:
        """Positions of a session's events, in the order in which they were taken."""
        return [position(event) for event in self.taken if event.session_id == session_id]

    @property
    def ids(self) -> list[str]:
        """Ids of all events that were taken."""
        return [event.event_id for event in self.taken]


class Failing:
    """Fails at each event so many times."""

    def __init__(self, times: int, outcome: Outcome = Outcome.RETRY) -> None:
        """Take them after that."""
        self.times = times
        self.outcome = outcome
        self.counts: dict[str, int] = {}

    def __call__(self, event: Event) -> Result:
        """The result of this one."""
        name = event.event_id
        self.counts[name] = self.counts.get(name, 0) + 1
        return Result(self.outcome, "throttled") if self.counts[name] <= self.times else SENT
