"""A run's events on their way to a sink: made of its facts, settled by what the sink says. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from eventlog.events import Fact, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.projection.dead_letters import DeadLetter, Refusal
from eventlog.projection.projection_log import RunFacts
from projections.forwarding.backoff import Failure, failed_again
from projections.forwarding.sink import Outcome, Verdict
from projections.integration_events import Kind, event_id

Kinds = Callable[[SessionOpened, Fact], Sequence[Kind]]

UNOPENED = "the run's first fact can't be read"
"""Reason of facts that would make events if one knew whose they are."""


class Due(NamedTuple):
    """An event that the sink has to be told of."""

    before: Position
    """Where the sink stands as long as it wasn't: at the fact before."""
    position: Position
    fact: Fact
    kind: Kind


@dataclass(slots=True)
class Lane:
    """What was pulled of a run, or one redriven letter; its events are sent in order."""

    name: str
    keys: RunKeys
    opened: SessionOpened | None
    due: deque[Due]
    after: Position = START
    """Where the sink stood when this was read."""
    last: Position = START
    """Where it stands once all is sent."""
    has_more: bool = False
    finals: list[UtteranceFinal] | None = None
    """All of the run, if that is known."""
    aside: list[tuple[Position, str]] = field(default_factory=list)
    """Facts that are set aside as such, and why."""
    letter: DeadLetter | None = None

    @property
    def position(self) -> Position:
        """Where the sink stands now: before the first event that it has yet to be told of."""
        return self.due[0].before if self.due else self.last

    def take_aside(self) -> list[tuple[Position, str]]:
        """The facts up to `position` that are to be set aside; each once."""
        found = [one for one in self.aside if one[0] <= self.position]
        self.aside = self.aside[len(found) :]
        return found


class Settled(NamedTuple):
    """What a call led to for one lane."""

    refusals: list[Refusal]
    failure: Failure | None
    """Of the event that is tried again; None if there is none."""
    forwarded: int


def lane_of(pulled: RunFacts, opened: SessionOpened | None, kinds: Kinds, failure: Failure | None = None) -> Lane:
    """The events that these facts give rise to, less those that the sink has already."""
    keys, after, facts = pulled.keys, pulled.after, pulled.facts
    due: deque[Due] = deque()
    aside = list(pulled.undecodable)
    sent = failure.sent if failure is not None else frozenset()
    before = after
    for position, fact in facts:
        try:
            found = _kinds(kinds, opened, fact)
        except Exception as error:  # noqa: BLE001 - a defect of a sink must cost one fact, not the forwarder
            aside.append((position, str(error) if isinstance(error, UnopenedError) else type(error).__name__))
            found = ()
        for kind in found:
            if not sent or event_id(keys, position, kind) not in sent:
                due.append(Due(before, position, fact, kind))
        before = position
    is_whole = after == START and not pulled.has_more and not pulled.undecodable
    finals = [fact for _, fact in facts if isinstance(fact, UtteranceFinal)] if is_whole else None
    return Lane(keys.member, keys, opened, due, after, pulled.end, pulled.has_more, finals, sorted(aside))


class UnopenedError(ValueError):
    """It isn't known whose events these are."""


def _kinds(kinds: Kinds, opened: SessionOpened | None, fact: Fact) -> Sequence[Kind]:
    if opened is not None:
        return kinds(opened, fact)
    if isinstance(fact, UtteranceFinal | SessionEnded):
        raise UnopenedError(UNOPENED)
    return ()


class Judge(NamedTuple):
    """By what a call's verdicts are settled."""

    now_s: float
    """On the forwarder's clock."""
    now_ms: int
    """On the wall's."""
    give_up_s: float


def settle(lane: Lane, verdicts: Sequence[Verdict], failure: Failure | None, judge: Judge) -> Settled:
    """Take off the lane's first events those that are over with: `verdicts` are of these, in order."""
    refusals: list[Refusal] = []
    done: list[tuple[Position, str]] = [] if failure is None else [(lane.position, one) for one in failure.sent]
    forwarded = 0
    for verdict in verdicts:
        one = lane.due[0]
        name = event_id(lane.keys, one.position, one.kind)
        attempts = 1 if failure is None or failure.event_id != name else failure.attempts + 1
        if verdict.outcome is Outcome.LATER:
            failure = failed_again(failure, name, judge.now_s)
            if judge.now_s - failure.first_s < judge.give_up_s:
                sent = frozenset(sent for before, sent in done if before == one.before)
                return Settled(refusals, failure._replace(sent=sent), forwarded)
        lane.due.popleft()
        if verdict.outcome in (Outcome.LATER, Outcome.NEVER):
            refusals.append(
                Refusal(lane.keys, one.position, verdict.reason, one.kind.value, name, attempts, judge.now_ms)
            )
        forwarded += verdict.outcome is Outcome.SENT
        done.append((one.before, name))
    return Settled(refusals, None, forwarded)
