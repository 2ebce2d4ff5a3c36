"""`stenolog promote`: which run of a session readers receive."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from eventlog.keys import LIVE_RUN, RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.readmodel.runs import find_sessions, read_runs
from eventlog.readmodel.statuses import FAILURES
from eventlog.redis.server import Server
from eventlog.work.promotion import Promoted, promoted_runs
from eventlog.work.promotion import promote as promote_runs
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import print_json
from stenolog.errors import UNABLE, UserError
from stenolog.settings import Settings, load
from stenolog.wiring import connected

BATCH_SESSIONS = 50
"""Promoted in one round trip: Redis copies an hour of speech in some 0.3 ms, and serves others between two."""

_REASONS = {
    "gone": "it has no such run: never made, expired or deleted",
    "not_ended": "{run} isn't over, or its transcript isn't complete yet: try again",
    "failed": "that run failed; see `stenolog sessions --runs`",
    "unknown": "its Redis node doesn't answer: try again",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one session."""

    session_id: str
    run: str
    outcome: str
    """``promoted``, ``unchanged`` (it was already), ``gone``, ``not_ended``, ``failed`` or ``unknown``."""
    before: str | None = None
    """Which run was promoted before, if this went well."""
    about: str | None = None
    """Which run is in the way, if it didn't."""


@click.command(cls=ExampleCommand, epilog=(
    "stenolog promote large-v3 $SESSION\n"
    "stenolog promote large-v3 --all            in every session that has such a run\n"
    "stenolog promote live $SESSION             back to the live run"
))
@click.argument("run")
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="In every session that has the run.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, an object a session.")
def promote(*, run: str, sessions: Sequence[str], everything: bool, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Let readers of the SESSIONs get RUN, all at once: List, transcript, exports, events and listings.

    Nothing is lost: `live`, or any other run, can be promoted again, and promoting the same one twice is harmless.
    Only a run that has ended, and not failed, is promoted. Exit status 1 if one couldn't be.
    """
    if bool(sessions) == everything:
        raise UserError("name the sessions in which it is to be promoted, or give --all", UNABLE)
    found = asyncio.run(_promote_all(load(**overrides), run, sessions))
    if as_json:
        print_json(found)
    else:
        _report(run, found)
    if not found or any(one.outcome not in {"promoted", "unchanged"} for one in found):
        sys.exit(1)


def _report(name: str, found: Sequence[Outcome]) -> None:
    for one in found:
        if one.outcome in _REASONS:
            print(f"{one.session_id}: not promoted, {_REASONS[one.outcome].format(run=one.about)}", file=sys.stderr)
    done = sum(one.outcome == "promoted" for one in found)
    unchanged = sum(one.outcome == "unchanged" for one in found)
    words = f"readers of {done} session{'' if done == 1 else 's'} get {name} from now on"
    print(words + (f"; those of {unchanged} did already" if unchanged else ""))
    if not found:
        print("no session has anything to switch to it", file=sys.stderr)


async def _promote_all(settings: Settings, run: str, session_ids: Sequence[str]) -> list[Outcome]:
    async with connected(settings) as server:
        sessions = [server.keys.of(session_id) for session_id in dict.fromkeys(session_ids)]
        sessions = sessions or await _sessions_with(server, run)
        outcomes: list[Outcome] = []
        for first in range(0, len(sessions), BATCH_SESSIONS):
            outcomes += await _promote_some(server, run, sessions[first : first + BATCH_SESSIONS])
        return outcomes


async def _sessions_with(server: Server, run: str) -> list[SessionKeys]:
    """Every session with that run; of the live run, which all have, those where another one is promoted."""
    sessions = sorted(await find_sessions(server, run), key=lambda keys: keys.session_id)
    if run != LIVE_RUN:
        return sessions
    promoted = await promoted_runs(server, sessions)
    return [keys for keys, other in zip(sessions, promoted, strict=True) if other != LIVE_RUN]


async def _promote_some(server: Server, run: str, sessions: Sequence[SessionKeys]) -> list[Outcome]:
    failed = set()
    if run != LIVE_RUN:  # going back is always possible
        for keys, runs in zip(sessions, await read_runs(server, sessions), strict=True):
            failed |= {keys for one in runs if one.run == run and one.reason in FAILURES}
    wanted = [keys.run(run) for keys in sessions if keys not in failed]
    answers = {keys.session_id: answer for keys, answer in zip(wanted, await promote_runs(server, wanted), strict=True)}
    return [_outcome(keys.run(run), answers.get(keys.session_id)) for keys in sessions]


def _outcome(keys: RunKeys, answer: Promoted | None) -> Outcome:
    session_id, run = keys.session_id, keys.run
    if answer is None:
        return Outcome(session_id=session_id, run=run, outcome="failed", about=run)
    if answer.code != Code.OK:
        return Outcome(session_id=session_id, run=run, outcome=answer.code.name.lower(), about=answer.run)
    if answer.run == run:
        return Outcome(session_id=session_id, run=run, outcome="unchanged", before=run)
    return Outcome(session_id=session_id, run=run, outcome="promoted", before=answer.run)
