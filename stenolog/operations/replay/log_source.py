"""Finds sessions in the log itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from eventlog.codec import UndecodableEventError, decode_audio_event, decode_start
from eventlog.events import SessionSealed
from eventlog.keys import LIVE_RUN, SessionKeys
from eventlog.log import Code
from eventlog.positions import OPENED, SEALED
from eventlog.projection.projection_log import ProjectionLog
from eventlog.redis.server import Server
from eventlog.work.replays import LOG
from stenolog.operations.replay.sources import Replayable, Selection

PAGE_SESSIONS = 100
"""Read in one round trip: a millisecond of Redis's time, and no more than 100 chunks of audio in the answer."""

_log = logging.getLogger(__name__)


class LogSource:
    """The sessions whose audio is in Redis."""

    name = LOG

    def __init__(self, server: Server) -> None:
        """Look in `server`."""
        self._server = server

    async def find(self, selection: Selection) -> AsyncIterator[Replayable]:
        """See `Source.find`; a whole walk reads each session that is retained."""
        async for page in self._pages(selection):
            for one in await self._read(page, selection):
                yield one

    async def _pages(self, selection: Selection) -> AsyncIterator[Sequence[SessionKeys]]:
        if selection.session_ids:
            sessions = [self._server.keys.of(session_id) for session_id in dict.fromkeys(selection.session_ids)]
            for first in range(0, len(sessions), PAGE_SESSIONS):
                yield sessions[first : first + PAGE_SESSIONS]
            return
        log = ProjectionLog(self._server, "", "", session_ttl_s=0)  # as no projection: it only reads
        for partition in self._server.keys.partitions:
            seen: set[str] = set()
            async for runs in log.walk(partition):
                page = {run.session_id: run.session for run in runs if run.run == LIVE_RUN}
                yield [keys for session_id, keys in page.items() if session_id not in seen]
                seen.update(page)

    async def _read(self, sessions: Sequence[SessionKeys], selection: Selection) -> list[Replayable]:
        commands: list[tuple[str | int, ...]] = []
        for keys in sessions:
            commands += [
                ("HGET", keys.session, "start"),
                # Only the entries at both ends: the session's start, and how it was ended.
                ("XRANGE", keys.audio, "-", str(OPENED)),
                ("XRANGE", keys.audio, str(SEALED), "+"),
            ]
        answers = await self._server.execute_many(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        found = (_replayable(*answers[at : at + 3]) for at in range(0, len(answers), 3))
        return [one for one in found if one is not None and selection.matches(one.start)]


def _replayable(started: bytes | None, first: Sequence[Any], last: Sequence[Any]) -> Replayable | None:
    """A session, from its records; None if it does not exist, or this build can't read it."""
    if started is None:
        return None
    try:
        start = decode_start(started)
        code, samples = Code.OK if first else Code.TRIMMED, _sealed(last)
    except UndecodableEventError as error:
        _log.warning("unreadable session skipped", extra={"error": error})
        return None
    if samples is None:
        code, samples = Code.NOT_ENDED, 0
    return Replayable(start.session_id, start.tenant_id, start.started_ms, start, samples, LOG, code)


def _sealed(last: Sequence[Any]) -> int | None:
    """The samples before the seal, None while the session is not sealed."""
    if not last:
        return None
    event = decode_audio_event(last[0][1][1])
    return event.offset_samples if isinstance(event, SessionSealed) else None
