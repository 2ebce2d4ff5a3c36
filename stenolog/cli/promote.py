"""`stenolog promote`: which run of a session readers get."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from eventlog.keys import LIVE_RUN, RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.readmodel.runs import find_sessions, read_runs
from eventlog.readmodel.statuses import FAILURES
from eventlog.redis.server import Server
from eventlog.work.promotion import Promoted, promote, promoted_runs
from stenolog.cli.errors import UNABLE, UserError, told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

SESSIONS_AT_ONCE = 50
"""In one round trip: Redis copies an hour of conversation in some 0.3 ms, and serves others between two sessions."""

_WHY = {
    "gone": "there is no such run of it: never made, expired or deleted",
    "not_ended": "{run} isn't over, or its transcript isn't complete yet: try again",
    "failed": "that run failed; see `stenolog sessions --runs`",
    "unknown": "its Redis node doesn't answer: try again",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one session."""

    session_id: str
    run: str
    outcome: str
    """``promoted``, ``unchanged`` (it was already), ``gone``, ``not_ended``, ``failed`` or ``unknown``."""
    before: str | None = None
    """Which run was promoted before, if this went well."""
    about: str | None = None
    """Which run is in the way, if it didn't."""


def run(*, run: str, sessions: Sequence[str], everything: bool, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Promote `run` in these sessions, or wherever there is one, and say what became of each that wasn't."""
    if bool(sessions) == everything:
        raise UserError("name the sessions in which it is to be promoted, or give --all", UNABLE)
    with told():
        found = asyncio.run(_promoted(load(**overrides), run, sessions))
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _tell(run, found)
    if not found or any(one.outcome not in {"promoted", "unchanged"} for one in found):
        sys.exit(1)


def _tell(name: str, found: Sequence[Outcome]) -> None:
    for one in found:
        if one.outcome in _WHY:
            print(f"{one.session_id}: not promoted, {_WHY[one.outcome].format(run=one.about)}", file=sys.stderr)
    done = sum(one.outcome == "promoted" for one in found)
    unchanged = sum(one.outcome == "unchanged" for one in found)
    words = f"readers of {done} session{'' if done == 1 else 's'} get {name} from now on"
    print(words + (f"; those of {unchanged} did already" if unchanged else ""))
    if not found:
        print("no session has anything to switch to it", file=sys.stderr)


async def _promoted(settings: Settings, run: str, session_ids: Sequence[str]) -> list[Outcome]:
    async with connected(settings) as server:
        sessions = [server.keys.of(session_id) for session_id in dict.fromkeys(session_ids)]
        sessions = sessions or await _all(server, run)
        outcomes: list[Outcome] = []
        for first in range(0, len(sessions), SESSIONS_AT_ONCE):
            outcomes += await _some(server, run, sessions[first : first + SESSIONS_AT_ONCE])
        return outcomes


async def _all(server: Server, run: str) -> list[SessionKeys]:
    """Every session with that run; of the live run, which all have, those where another one is promoted."""
    sessions = sorted(await find_sessions(server, run), key=lambda keys: keys.session_id)
    if run != LIVE_RUN:
        return sessions
    promoted = await promoted_runs(server, sessions)
    return [keys for keys, other in zip(sessions, promoted, strict=True) if other != LIVE_RUN]


async def _some(server: Server, run: str, sessions: Sequence[SessionKeys]) -> list[Outcome]:
    failed = set()
    if run != LIVE_RUN:  # going back is always possible
        for keys, runs in zip(sessions, await read_runs(server, sessions), strict=True):
            failed |= {keys for one in runs if one.run == run and one.reason in FAILURES}
    wanted = [keys.run(run) for keys in sessions if keys not in failed]
    answers = {keys.session_id: answer for keys, answer in zip(wanted, await promote(server, wanted), strict=True)}
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
