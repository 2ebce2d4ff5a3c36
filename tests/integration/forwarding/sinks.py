"""Sinks of the tests: real ones, that keep what they are told, and fail as they are bid."""

import asyncio
from collections.abc import Callable, Sequence

from eventlog.events import Fact, SessionOpened
from projections.forwarding.sink import SENT, Outcome, Outgoing, Verdict
from projections.integration_events import Kind, transcript_kinds

Judge = Callable[[Outgoing], Verdict]


def content(_: Outgoing) -> Verdict:
    """Takes everything."""
    return SENT


class Recorder:
    """Takes events as `judge` says, after the first that it puts off no later one of that run, as the contract asks."""

    name = "webhooks"
    most_events = 4
    most_calls = 3

    def __init__(
        self, judge: Judge = content, kinds: Callable[[SessionOpened, Fact], Sequence[Kind]] = transcript_kinds
    ) -> None:
        """Be told of `kinds`."""
        self.judge = judge
        self._kinds = kinds
        self.taken: list[Outgoing] = []
        self.asked: list[Outgoing] = []
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

    async def send(self, events: Sequence[Outgoing]) -> Sequence[Verdict]:
        """See `Sink`."""
        assert len(events) <= self.most_events
        self.under_way += 1
        assert self.under_way <= self.most_calls
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        self.asked += events
        late: set[str] = set()
        verdicts = []
        for event in events:
            verdict = Verdict(Outcome.LATER, "after one") if event.keys.member in late else self.judge(event)
            if verdict.outcome is Outcome.LATER:
                late.add(event.keys.member)
            elif verdict.outcome is Outcome.SENT:
                self.taken.append(event)
            verdicts.append(verdict)
        return verdicts

    async def stop(self) -> None:
        """See `Sink`."""
        self.stops += 1

    def of(self, session_id: str) -> list[str]:
        """Positions of a session's events, as they were taken."""
        return [str(event.position) for event in self.taken if event.event.session_id == session_id]

    @property
    def ids(self) -> list[str]:
        """Ids of all that was taken."""
        return [event.event.event_id for event in self.taken]


class Failing:
    """Puts events off, the first so many times each."""

    def __init__(self, times: int, outcome: Outcome = Outcome.LATER) -> None:
        """Then takes them."""
        self.times = times
        self.outcome = outcome
        self.counts: dict[str, int] = {}

    def __call__(self, event: Outgoing) -> Verdict:
        """What becomes of this one."""
        name = event.event.event_id
        self.counts[name] = self.counts.get(name, 0) + 1
        return Verdict(self.outcome, "throttled") if self.counts[name] <= self.times else SENT
