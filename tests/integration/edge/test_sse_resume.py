"""Whatever breaks between a session and its listeners, each receives everything once and in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import cycle
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.streams.fan_out import FanOut, FeedCursor
from eventlog.events import Fact, HoleNoted
from eventlog.positions import SEALED, START, Position
from eventlog.readmodel.feed import FeedMessage
from eventlog.readmodel.statuses import read_statuses
from projections.runner import ProjectionRunner
from tests.integration.edge.replicas import RATE_HZ, Replica
from tests.integration.projections.facts import ended, final
from tests.support.edge_clients import (
    SseBlock,
    SseClient,
    open_session,
    projecting,
    status_of,
    transcript_of,
    write_facts,
)

Facts = list[tuple[Position, Fact]]


class Habit(NamedTuple):
    """How one listener behaves."""

    joins_after: int
    """It comes after so many parts were written."""
    patience: tuple[int, ...]
    """After how many events of each connection it is cut off; at last it stays."""
    whole: bool
    """It is cut off after a whole event, or within whatever comes next."""


habits = st.builds(
    Habit, st.integers(0, 3), st.lists(st.integers(0, 3), max_size=5).map(tuple), st.booleans()
)


@st.composite
def stories(draw: st.DrawFn) -> list[Facts]:
    """The facts of a session, in the parts that are committed together."""
    facts: Facts = []
    for number in range(draw(st.integers(0, 8))):
        if draw(st.booleans()):
            start = number * 2 * RATE_HZ
            hole = HoleNoted(start_samples=start, end_samples=start + 100, sample_rate_hz=RATE_HZ)
            facts.append((Position(number, 1), hole) if number else (Position(0, 2), hole))
        facts.append(final(number))
    facts.append(ended(sum(position.sequence == 0 for position, _ in facts)))
    cuts = sorted(draw(st.sets(st.integers(1, len(facts)), max_size=4)) | {len(facts)})
    return [facts[first:last] for first, last in zip([0, *cuts], cuts, strict=False)]


@pytest.fixture
async def projected(redis_url: str) -> AsyncIterator[ProjectionRunner]:
    """All projections at work."""
    async with projecting(redis_url) as runner:
        yield runner


class Audience:
    """Clients that connect, are cut off and reconnect, at an edge that loses messages."""

    def __init__(self, edge: Replica, session_id: str) -> None:
        """Of one session."""
        self._edge = edge
        self._session_id = session_id
        self.written = 0
        self.more = asyncio.Condition()

    async def write(self, parts: list[Facts]) -> None:
        """Commits one part after the other; listeners come between them."""
        keys = self._edge.core.server.keys.of(self._session_id).run()
        for part in parts:
            await write_facts(self._edge, keys, part)
            async with self.more:
                self.written += 1
                self.more.notify_all()

    async def listen(self, listen: Callable[..., SseClient], habit: Habit, parts: int) -> list[SseBlock]:
        """Everything that one listener receives until the end."""
        async with self.more:
            await self.more.wait_for(lambda: self.written >= min(habit.joins_after, parts))
        received: list[SseBlock] = []
        for most in (*habit.patience, None):
            last_id = next((block.id for block in reversed(received) if block.id), "")
            resumed = {"last_event_id": last_id} if last_id else {}
            async with listen(self._edge, self._session_id, **resumed) as stream:
                if stream.status == 204:
                    return received
                received += await _receive(stream, most, whole=habit.whole)
                if stream.ended:
                    return received
        return received


async def _receive(stream: SseClient, most: int | None, *, whole: bool) -> list[SseBlock]:
    received: list[SseBlock] = []
    while most is None or len(received) < most:
        if (block := await stream.next()) is None:
            return received
        received.append(block)
    if not whole:  # cut within what comes next, if anything does
        await stream.some_bytes()
    return received


losses = st.lists(st.booleans(), min_size=1, max_size=6).map(tuple)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=stories(), crowd=st.lists(st.tuples(st.booleans(), habits), min_size=1, max_size=5), lost=losses)
@example(
    parts=[[final(0)], [final(1), ended(2)]],
    crowd=[(True, Habit(0, (1,), whole=False)), (False, Habit(1, (0, 1), whole=True))], lost=(True,),
)  # fmt: skip
@pytest.mark.usefixtures("projected")
async def test_nothing_is_lost_or_repeated(
    edge: Replica, parts: list[Facts], crowd: list[tuple[bool, Habit]], lost: tuple[bool, ...]
) -> None:
    """However listeners are cut off and messages get lost, each event comes once and in order (STATUS-4, STATUS-6)."""
    keys = await open_session(edge)
    lose_messages(edge, lost)
    audience = Audience(edge, keys.session_id)
    listening = [
        asyncio.create_task(audience.listen(transcript_of if of_text else status_of, habit, len(parts)))
        for of_text, habit in crowd
    ]
    writing = asyncio.create_task(audience.write(parts))
    pending = {writing, *listening}
    while pending:  # the check finds lost messages that no later one reveals
        _, pending = await asyncio.wait(pending, timeout=0.03)
        await edge.core.fanout.check(100)
    await writing
    positions = [str(position) for part in parts for position, _ in part]
    statuses = [str(position) for position, _ in await read_statuses(edge.core.server, keys, START)]
    for (of_text, _), task in zip(crowd, listening, strict=True):
        ids = [block.id for block in await task if block.kind != "partial"]
        assert ids == (positions if of_text else statuses[-len(ids) :])
        assert ids[-1] == (str(SEALED) if of_text else statuses[-1])
    assert edge.core.streams.count == edge.core.fanout.count() == 0


def lose_messages(edge: Replica, pattern: tuple[bool, ...]) -> None:
    """Has the edge miss messages on the channels, by turns."""
    fates, fanout = cycle(pattern), edge.core.fanout

    def pass_on(cursor: FeedCursor, message: FeedMessage) -> None:
        if not next(fates):
            FanOut._pass_on(fanout, cursor, message)

    fanout._pass_on = pass_on  # type: ignore[method-assign]
