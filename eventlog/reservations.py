"""Session limits over all replicas: expiring reservations by Redis's own clock, taken before a session is opened.

A reservation is held from the opening of a session to its end. The edge that has the session renews it; those of a
crashed edge expire by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventlog import keys
from eventlog.log import Code
from eventlog.scripts import script
from eventlog.server import Server

SESSIONS_PER_CALL = 200
"""About half a millisecond of Redis's time."""


class Reservations:
    """The deployment's places for sessions; a method that raised `LogUnavailableError` may be called again."""

    def __init__(self, server: Server, *, limit: int, ttl_s: float) -> None:
        """Never let more than `limit` be held; each lasts `ttl_s` unless renewed."""
        self._server = server
        self._limit = limit
        self._ttl_ms = round(ttl_s * 1000)

    async def take(self, session_ids: Sequence[str]) -> list[Code]:
        """Take or renew a place for each: OK (taken), EXISTS (was held, renewed) or FULL."""
        codes: list[Code] = []
        for first in range(0, len(session_ids), SESSIONS_PER_CALL):
            answer = await self._server.run(
                script("reserve_session"),
                [keys.reservations()],
                [self._limit, self._ttl_ms, *session_ids[first : first + SESSIONS_PER_CALL]],
            )
            codes += [Code(code) for code in answer]
        return codes

    async def release(self, session_ids: Sequence[str]) -> None:
        """Free the places of sessions that have ended."""
        if session_ids:
            await self._server.execute("ZREM", keys.reservations(), *session_ids)

    async def held(self) -> int:
        """How many are held now, expired ones not counted."""
        now_ms = await self._server.time_ms()
        return int(await self._server.execute("ZCOUNT", keys.reservations(), f"({now_ms}", "+inf"))
