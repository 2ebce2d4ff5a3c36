"""A run's events on their way to a sink: made of its facts, and judged by the sink's results. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from eventlog.events import Fact, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import RunFacts
from projections.forwarding.run_scheduler import Retry, next_retry
from projections.forwarding.sink import Outcome, Result
from projections.integration_events import Kind, event_id

Kinds = Callable[[SessionOpened, Fact], Sequence[Kind]]

UNOPENED = "the run's first fact can't be read"
"""Reason of facts that would make events if their session were known."""

UNREADABLE = "its fact can't be read, or makes no such event"
"""Reason of a redriven dead letter of which no event can be made."""


class PendingEvent(NamedTuple):
    """An event that the sink has yet to get; its body is made when it is sent."""

    before: Position
    """Where the sink stands until then: at the fact before."""
    position: Position
    fact: Fact
    kind: Kind


@dataclass(slots=True)
class Batch:
    """Consecutive events of one run, or those of one redriven dead letter; they are sent in order."""

    name: str
    keys: RunKeys
    opened: SessionOpened | None
    pending: deque[PendingEvent]
    after: Position = START
    """Where the sink stood when the facts were pulled."""
    last: Position = START
    """Where it stands once all is sent."""
    has_more: bool = False
    finals: list[UtteranceFinal] | None = None
    """All of the run, if that is known."""
    unreadable: list[tuple[Position, str]] = field(default_factory=list)
    """Facts that become dead letters as such, and why."""
    dead_letter: DeadLetter | None = None


class Progress(NamedTuple):
    """The consequences of a delivery for one batch, to be written."""

    batch: Batch
    position: Position
    """Where the sink stands now: before the first event that it has yet to get."""
    dead_letters: list[DeadLetter]
    retry: Retry | None = None
    """Of the event that is tried again; None if it is none."""
    sent: int = 0
    """How many events the sink took."""

    @property
    def redriven(self) -> DeadLetter | None:
        """The batch's dead letter if it is done with: without a reason if it was sent, else with the new one."""
        dead_letter = self.batch.dead_letter
        if dead_letter is None or (not self.dead_letters and (self.retry is not None or self.batch.pending)):
            return None
        if not self.dead_letters:
            return dead_letter._replace(reason="")
        again = self.dead_letters[0]
        return dead_letter._replace(reason=again.reason, attempts=again.attempts, at_ms=again.at_ms)


def make_batch(pulled: RunFacts, opened: SessionOpened | None, kinds: Kinds, retry: Retry | None = None) -> Batch:
    """The events that these facts give rise to, less those that the sink has already."""
    keys, after, facts = pulled.keys, pulled.after, pulled.facts
    pending: deque[PendingEvent] = deque()
    unreadable = list(pulled.undecodable)
    sent = retry.sent if retry is not None else frozenset()
    before = after
    for position, fact in facts:
        found: Sequence[Kind] = ()
        if opened is None and isinstance(fact, UtteranceFinal | SessionEnded):
            unreadable.append((position, UNOPENED))
        elif opened is not None:
            try:
                found = kinds(opened, fact)
            except Exception as error:  # noqa: BLE001 - a defect of a sink must cost one fact, not the forwarder
                unreadable.append((position, type(error).__name__))
        for kind in found:
            if not sent or event_id(keys, position, kind) not in sent:
                pending.append(PendingEvent(before, position, fact, kind))
        before = position
    is_complete = after == START and not pulled.has_more and not pulled.undecodable
    finals = [fact for _, fact in facts if isinstance(fact, UtteranceFinal)] if is_complete else None
    return Batch(keys.member, keys, opened, pending, after, pulled.end, pulled.has_more, finals, sorted(unreadable))


def make_redriven_batch(
    dead_letter: DeadLetter, opened: SessionOpened | None, fact: Fact | None, kinds: Kinds
) -> Batch:
    """The event of a dead letter, or those of the fact that it is about; none if it can't be made."""
    found: Sequence[Kind] = ()
    if opened is not None and fact is not None:
        try:
            found = [Kind(dead_letter.kind)] if dead_letter.kind else kinds(opened, fact)
        except Exception:  # noqa: BLE001 - as in `make_batch`
            opened = None
    pending = deque(PendingEvent(START, dead_letter.position, fact, kind) for kind in found if fact is not None)
    unreadable = [(START, UNREADABLE)] if opened is None or fact is None else []
    return Batch(dead_letter.id, dead_letter.keys, opened, pending, unreadable=unreadable, dead_letter=dead_letter)


class Judge(NamedTuple):
    """Decides by a delivery's results how far a batch is, and which events are dead letters."""

    sink: str
    consumer: str
    give_up_s: float
    """For how long an event is tried."""
    now_s: float
    """On the forwarder's clock."""
    now_ms: int
    """On the wall's."""

    def judge(self, batch: Batch, results: Sequence[Result], retry: Retry | None) -> Progress:
        """Take the first events off the batch that are done with; `results` are of these, in order."""
        dead_letters: list[DeadLetter] = []
        done: list[tuple[Position, str]] = []
        if retry is not None and batch.pending:
            done = [(batch.pending[0].before, one) for one in retry.sent]
        sent = 0
        for outcome, reason in results:
            before, position, _, kind = batch.pending[0]
            name = event_id(batch.keys, position, kind)
            attempts = 1 if retry is None or retry.event_id != name else retry.attempts + 1
            if outcome is Outcome.RETRY:
                retry = next_retry(retry, name, self.now_s)
                if self.now_s - retry.since_s < self.give_up_s:
                    retry = retry._replace(sent=frozenset(one for place, one in done if place == before))
                    break
            batch.pending.popleft()
            if outcome in (Outcome.RETRY, Outcome.REJECTED):
                dead_letter = self._dead_letter(batch.keys, position, reason)
                dead_letters.append(dead_letter._replace(kind=kind.value, event_id=name, attempts=attempts))
            sent += outcome is Outcome.SENT
            done.append((before, name))
        else:
            retry = None
        place = batch.pending[0].before if batch.pending else batch.last
        reached = [one for one in batch.unreadable if one[0] <= place]
        batch.unreadable = batch.unreadable[len(reached) :]
        dead_letters = [*(self._dead_letter(batch.keys, *one) for one in reached), *dead_letters]
        return Progress(batch, place, dead_letters, retry, sent)

    def _dead_letter(self, keys: RunKeys, position: Position, reason: str) -> DeadLetter:
        place = (self.sink, keys.partition, "", keys, str(position))
        return DeadLetter(*place, reason=reason, consumer=self.consumer, at_ms=self.now_ms)
