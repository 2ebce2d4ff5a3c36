"""Which run of a session readers receive: the promoted one, which is the live run until a replay is promoted.

Readers use the session's own keys. A promoted replay's List, document and view are copied there, and the live run's are
saved under other keys meanwhile, so that it can be promoted again. One script a session changes all of it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventlog.keys import LIVE_RUN, RunKeys, SessionKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server


class ReadModelKeys(NamedTuple):
    """The keys of the read models that take part in a promotion."""

    list: str
    document: str
    view: str


class Promoted(NamedTuple):
    """The answer to a promotion."""

    code: Code
    """OK; GONE or NOT_ENDED, which concern `run`; UNKNOWN if the session's node could not be reached."""
    run: str
    """With OK: the run that was promoted so far."""


def reader_keys(session: SessionKeys) -> ReadModelKeys:
    """The keys that readers of a session use, whichever run they hold."""
    return ReadModelKeys(session.list, session.document, session.view)


def read_model_keys(run: RunKeys, promoted: str) -> tuple[ReadModelKeys, ...]:
    """The keys of a run's List, document and view while the run `promoted` of its session is promoted: its own first.

    A promoted replay has two sets, the second of which is the copy that readers receive; every other run has one.
    """
    session = run.session
    if run.run == LIVE_RUN:
        saved = ReadModelKeys(session.live_list, session.live_document, session.live_view)
        return (reader_keys(session),) if promoted == LIVE_RUN else (saved,)
    own = ReadModelKeys(run.list, run.document, run.view)
    return (own, reader_keys(session)) if run.run == promoted else (own,)


async def promoted_runs(server: Server, sessions: Sequence[SessionKeys]) -> list[str]:
    """Return the promoted run of each session, in order.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    answers = await server.execute_all([("GET", session.promoted) for session in sessions])
    return [answer.decode() if answer else LIVE_RUN for answer in answers]


async def promoted_run(server: Server, session: SessionKeys) -> RunKeys:
    """Return the run of a session that readers receive.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    [promoted] = await promoted_runs(server, [session])
    return session.run(promoted)


async def promote(server: Server, runs: Sequence[RunKeys]) -> list[Promoted]:
    """Let readers of each run's session get that run, each at once or not at all; safe to repeat.

    Refused, and then nothing changes: a run that does not exist, or isn't over, or whose read models, or the live
    run's, are behind. Nothing is prolonged: the copy expires when the run's own read models do.

    Raises:
        LogUnavailableError: if nothing can be reached, LogFullError if Redis has no memory for the copies; try again.
    """
    answers = await server.run_many([_call(run) for run in runs])
    if answers and all(isinstance(answer, LogUnavailableError) for answer in answers):
        raise answers[0]
    return [
        Promoted(Code.UNKNOWN, run.run) if isinstance(answer, LogUnavailableError)
        else Promoted(Code(answer[0]), answer[1].decode())
        for run, answer in zip(runs, answers, strict=True)
    ]  # fmt: skip


def _call(run: RunKeys) -> Call:
    session, live = run.session, run.session.run()
    saved = ReadModelKeys(session.live_list, session.live_document, session.live_view)
    own = saved if run.run == LIVE_RUN else ReadModelKeys(run.list, run.document, run.view)
    return Call(
        script("promote_run"),
        [
            run.partition.erased, session.promoted, run.partition.feed_channel,
            live.transcript, *map(live.projected, ("lists", "sessions")),
            run.transcript, *map(run.projected, ("lists", "feeds", "sessions")),
            *reader_keys(session), *saved, *own,
        ],
        [run.session_id, run.run],
    )  # fmt: skip
