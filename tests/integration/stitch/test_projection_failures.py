"""STITCH-7: a failing projection never loses another one's writes, whichever fails, whenever, and however."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import projections.projection_loop
from eventlog import keys
from eventlog.log import LogUnavailableError
from eventlog.projection.operations import Op
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.statuses import decode_status, read_last_status
from eventlog.readmodel.views import read_document, read_view
from projections.projection import Command, Projection
from tests.integration.stitch.path import TTL_S, Held, Path, all_projections, bounded, running
from tests.integration.stitch.speakers import TALKATIVE, Speaker, speakers
from tests.support.waiting import eventually_async

NAMES = keys.READ_MODELS


class FailingProjection:
    """A projection that can be made to fail."""

    def __init__(self, inner: Projection) -> None:
        """Do the same as `inner` until `error` is set."""
        self.inner = inner
        self.name = inner.name
        self.linger_s = 0.0
        self.error: Exception | None = None
        self.failures = 0

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """As `inner`."""
        if self.error is not None:
            self.failures += 1
            raise self.error
        return self.inner.reads(pulled)

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
        """As `inner`."""
        return self.inner.fold(pulled, answers)


@pytest.fixture
def failing_projections(monkeypatch: pytest.MonkeyPatch) -> dict[str, FailingProjection]:
    """The projections, not failing yet; a failed round is tried again soon."""
    monkeypatch.setattr(projections.projection_loop, "SWEEP_S", 0.05)
    return {one.name: FailingProjection(one) for one in all_projections()}


@pytest.fixture
async def path(redis_url: str, failing_projections: dict[str, FailingProjection]) -> AsyncIterator[Path]:
    """The whole path on an empty Redis, with these projections."""
    async with running(redis_url, projections=list(failing_projections.values())) as found:
        yield found


async def has_everything(path: Path, session: Held, projection: str) -> None:
    """Returns when this read model has the whole session; fails if its content is wrong."""
    match projection:
        case "lists":
            await eventually_async(lambda: read_document(path.server, session.run))
            assert await path.listed(session) == session.owed
        case "feeds":
            finals = [event["text"] for event in await path.feed(session) if event["type"] == "final"]
            assert finals == [final.text for final in session.owed]
        case "sessions":
            await eventually_async(lambda: _is_closed(path, session))
            view = await read_view(path.server, session.run)
            assert view is not None
            assert view.finals == len(session.owed)
        case "status":
            await eventually_async(lambda: _is_completed(path, session))
        case _:
            raise AssertionError(f"what has {projection} to have?")


async def _is_closed(path: Path, session: Held) -> bool:
    view = await read_view(path.server, session.run)
    return view is not None and view.state == "CLOSED"


async def _is_completed(path: Path, session: Held) -> bool:
    last = await read_last_status(path.server, session.run)
    return last is not None and decode_status(last[1]).status == "completed"


failures_drawn = st.sampled_from([RuntimeError("a defect"), LogUnavailableError("away"), TimeoutError()])


@given(name=st.sampled_from(NAMES), error=failures_drawn, at_start=st.booleans(), crowd=speakers())
@example(name="lists", error=RuntimeError("a defect"), at_start=True, crowd=TALKATIVE)
@example(name="feeds", error=TimeoutError(), at_start=False, crowd=TALKATIVE)
@bounded
async def test_a_projection_that_fails_for_a_while_costs_nothing(  # noqa: PLR0917 - two fixtures, four drawn
    path: Path, failing_projections: dict[str, FailingProjection], name: str, error: Exception, at_start: bool,  # noqa: FBT001
    crowd: list[Speaker],
) -> None:
    """STITCH-2, STITCH-7: while one projection fails the others get everything, and once it is fixed it has it too."""
    failing = failing_projections[name]

    async def begin_failing(_: Held) -> None:
        failing.error = error

    when = {"on_start" if at_start else "said": begin_failing}
    leaving = [speaker._replace(stops=False) for speaker in crowd]
    sessions = await asyncio.gather(
        *(path.hold(speaker, number, documented=False, **when) for number, speaker in enumerate(leaving))
    )
    for session in sessions:
        for projection in NAMES:
            if projection != name:
                await has_everything(path, session, projection)
    await eventually_async(lambda: failing.failures > 0)
    failing.error = None
    for session in sessions:
        await has_everything(path, session, name)
    failing.failures = 0


@given(name=st.sampled_from(NAMES), crowd=speakers(least=2))
@example(name="lists", crowd=TALKATIVE)
@example(name="feeds", crowd=TALKATIVE)
@example(name="sessions", crowd=TALKATIVE)
@example(name="status", crowd=TALKATIVE)
@bounded
async def test_a_read_model_that_refuses_costs_its_own_facts_alone(path: Path, name: str, crowd: list[Speaker]) -> None:
    """STITCH-2, STITCH-7: facts that a session's read model refuses are dead-lettered, and all others are whole."""

    async def spoil(session: Held) -> None:
        run = session.run
        spoilt = {"lists": run.list, "feeds": run.feed, "sessions": run.view, "status": run.status}[name]
        await path.server.execute("DEL", spoilt)
        # Neither a list nor a stream nor a hash.
        await path.server.execute("SET", spoilt, "something else", "EX", TTL_S)

    # An edge that resumes reads the feed, and what it says of one that is no feed is another matter.
    steady = crowd[0]._replace(parts=tuple(part for part in crowd[0].parts if part[0] != "drop"), stops=False)
    victim, *others = await asyncio.gather(
        path.hold(steady, on_start=spoil, documented=False),
        *(path.hold(one._replace(stops=False)) for one in crowd[1:]),
    )
    for session in others:
        for projection in NAMES:
            await has_everything(path, session, projection)
    for projection in NAMES:
        if projection != name:
            await has_everything(path, victim, projection)
    letters = await eventually_async(lambda: dead_lettered(path, victim, name=name))
    assert await dead_lettered(path, *others, name=name) == []
    assert len(letters) == len(set(letters))


async def dead_lettered(path: Path, *sessions: Held, name: str) -> list[str]:
    """The facts of these sessions among a projection's dead letters, once the last one is."""
    found = []
    for session in sessions:
        for _, fields in await path.server.execute("XRANGE", session.run.partition.dead_letters(name), "-", "+"):
            dead_letter = dict(zip(fields[::2], fields[1::2], strict=True))
            if dead_letter[b"run"] == session.run.member.encode():
                found.append(dead_letter[b"fact"].decode())
    return found
