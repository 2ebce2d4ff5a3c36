"""A session's runs side by side, and each one's transcript, whichever run is promoted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from eventlog.codec import decode_fact
from eventlog.events import UtteranceFinal
from eventlog.keys import LIVE_RUN, RunKeys, SessionKeys
from eventlog.positions import SEALED, START, Position
from eventlog.projection.projection_log import ProjectionLog
from eventlog.readmodel.documents import Document, decode_document, decode_final, stitch
from eventlog.readmodel.views import SessionView, Transcript, to_transcript
from eventlog.redis.server import Server
from eventlog.work.promotion import promoted_runs, read_model_keys

READ_ATTEMPTS = 5
"""A promotion between two reads makes them disagree; several in a row, within milliseconds, don't occur in practice."""

FACTS_PER_READ = 1000
"""Some 300 kB, an hour of conversation."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """State and numbers of one run among the others of its session."""

    run: str
    """``live``: the run that the session's own client caused; any other is a replay's name."""
    promoted: bool = False
    """Whether readers receive this one."""
    state: str
    """CREATED, ACTIVE, CLOSING or CLOSED."""
    engine: str = ""
    language: str = ""
    opened_ms: int = 0
    ended_ms: int | None = None
    reason: str | None = None
    """Why it ended; `failed` if it did."""
    finals: int = 0
    audio_seconds: float = 0.0
    """Processed so far."""


_READ = tuple(name for name in RunView.__struct_fields__ if name != "promoted")


async def read_runs(server: Server, sessions: Sequence[SessionKeys]) -> list[list[RunView]]:
    """Each session's runs that are known: the live one first, then its replays, the oldest first.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    found: dict[str, list[RunView]] = {}
    left = list(sessions)
    for _ in range(READ_ATTEMPTS):
        found |= {keys.session_id: runs for keys, runs in zip(left, await _read_once(server, left), strict=True)}
        # Its view is another run's: one was promoted between the reads.
        left = [keys for keys in left if len({one.run for one in found[keys.session_id]}) < len(found[keys.session_id])]
        if not left:
            break
    return [found[keys.session_id] for keys in sessions]


async def _read_once(server: Server, sessions: Sequence[SessionKeys]) -> list[list[RunView]]:
    promoted = await promoted_runs(server, sessions)
    replays = await server.execute_all([("ZRANGE", keys.replays, 0, -1) for keys in sessions])
    runs = [
        (number, keys.run(name))
        for number, (keys, names) in enumerate(zip(sessions, replays, strict=True))
        for name in (LIVE_RUN, *(name.decode() for name in names))
    ]
    keys_of_views = [read_model_keys(run, promoted[number])[0].view for number, run in runs]
    views = await server.execute_all([("HMGET", key, *_READ) for key in keys_of_views])
    found: list[list[RunView]] = [[] for _ in sessions]
    for (number, run), values in zip(runs, views, strict=True):
        fields = {name: value.decode() for name, value in zip(_READ, values, strict=True) if value is not None}
        if "run" in fields and "state" in fields:
            one = msgspec.convert({**fields, "promoted": run.run == promoted[number]}, RunView, strict=False)
            found[number].append(one)
    return found


def merge_view(runs: Sequence[RunView], view: SessionView) -> list[RunView]:
    """The runs, with the one of `view` by its numbers: they are newer while the session is open."""
    mine = RunView(
        run=view.run, promoted=True, state=view.state, engine=view.engine, language=view.language,
        opened_ms=view.opened_ms, ended_ms=view.ended_ms, reason=view.reason, finals=view.finals,
        audio_seconds=view.audio_seconds,
    )  # fmt: skip
    others = [msgspec.structs.replace(one, promoted=False) if one.run != view.run else mine for one in runs]
    return others if mine in others else [mine, *others]


async def read_run_document(server: Server, keys: RunKeys) -> Document | None:
    """The stitched document of this very run, None until it is written.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    [promoted] = await promoted_runs(server, [keys.session])
    for _ in range(READ_ATTEMPTS):
        before = promoted
        own = read_model_keys(keys, promoted)[0]
        data, now = await server.execute_all([("GET", own.document), ("GET", keys.session.promoted)])
        promoted = now.decode() if now else LIVE_RUN
        if promoted == before:  # else another was promoted meanwhile, and this may have been under other keys
            return None if data is None else decode_document(data)
    return None


async def read_run_transcript(server: Server, keys: RunKeys) -> Transcript | None:
    """The transcript of this very run as far as it exists; None for an unknown run.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    document = await read_run_document(server, keys)
    if document is not None:
        return to_transcript(document)
    # Only an ended run can be promoted: until then its List is where it was made.
    entries, is_there = await server.execute_all([("LRANGE", keys.list, 0, -1), ("EXISTS", keys.transcript)])
    if not is_there:
        return None
    finals = [decode_final(entry) for entry in entries]
    return Transcript(run=keys.run, is_final=False, transcript=stitch(finals), utterances=finals)


async def find_sessions(server: Server, run: str) -> list[SessionKeys]:
    """Every session of which something is retained of the run called `run`, in no certain order.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    found: dict[str, SessionKeys] = {}
    index = ProjectionLog(server, "", "", session_ttl_s=0)  # only reads, as no consumer
    for partition in server.keys.partitions:
        async for runs in index.walk(partition):
            found |= {keys.session_id: keys.session for keys in runs if keys.run == run}
    return list(found.values())


class Finals(NamedTuple):
    """The finals that a run has stated so far."""

    finals: list[UtteranceFinal]
    is_over: bool


async def read_finals(server: Server, keys: RunKeys) -> Finals | None:
    """A run's finals, of its facts; None if it has none of these, not even the first.

    Raises:
        LogUnavailableError: if Redis can't be reached.
        UndecodableEventError: if a fact is none of this build.
    """
    finals: list[UtteranceFinal] = []
    after, is_there = START, False
    while after != SEALED:
        entries = await server.execute("XRANGE", keys.transcript, f"({after}", "+", "COUNT", FACTS_PER_READ)
        if not entries:
            return Finals(finals, is_over=False) if is_there else None
        is_there, after = True, Position.parse(entries[-1][0])
        facts = (decode_fact(fields[1]) for _, fields in entries)
        finals += (fact for fact in facts if isinstance(fact, UtteranceFinal))
    return Finals(finals, is_over=True)
