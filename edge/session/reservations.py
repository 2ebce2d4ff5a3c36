"""Session limits over all replicas: expiring reservations by Redis's own clock, taken before a session is opened.

A reservation is held from the opening of a session to its end. The edge that has the session renews it; those of a
crashed edge expire by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventlog import keys
from eventlog.log import Code
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Server

SESSIONS_PER_CALL = 200
"""About half a millisecond of Redis's time."""


class Reservation(NamedTuple):
    """A session's share of the limits: one of the deployment's sessions, and one of its tenant's."""

    session_id: str
    tenant_id: str


class Reservations:
    """The deployment's reservations; a method that raised `LogUnavailableError` may be called again."""

    def __init__(self, server: Server, *, limit: int, ttl_s: float, tenant_limit: int = 0) -> None:
        """Hold at most `limit` of them, and at most `tenant_limit` of one tenant (0: no such limit).

        Each lasts `ttl_s` unless renewed.
        """
        self._server = server
        self._limit = limit
        self._tenant_limit = tenant_limit
        self._ttl_ms = round(ttl_s * 1000)

    async def take(self, reservations: Sequence[Reservation]) -> list[Code]:
        """Take or renew each reservation, of both limits or of none.

        Returns OK (taken), EXISTS (was held, renewed), FULL or TENANT_FULL.
        """
        codes: list[Code] = []
        for first in range(0, len(reservations), SESSIONS_PER_CALL):
            page = reservations[first : first + SESSIONS_PER_CALL]
            number_of = {tenant_id: number for number, tenant_id in enumerate({one.tenant_id for one in page}, 1)}
            each: list[Argument] = []
            for one in page:
                each += (one.session_id, number_of[one.tenant_id])
            answer = await self._server.run(
                script("reserve_session"),
                [keys.reservations(), *map(keys.tenant_reservations, number_of)],
                [self._limit, self._tenant_limit, self._ttl_ms, *each],
            )
            codes += [Code(code) for code in answer]
        return codes

    async def release(self, reservations: Sequence[Reservation]) -> None:
        """Free the reservations of sessions that have ended."""
        await self._server.execute_many(
            [("ZREM", keys.tenant_reservations(one.tenant_id), one.session_id) for one in reservations]
            + [("ZREM", keys.reservations(), one.session_id) for one in reservations]
        )

    async def held(self) -> int:
        """Count those held now, expired ones left out."""
        now_ms = await self._server.time_ms()
        return int(await self._server.execute("ZCOUNT", keys.reservations(), f"({now_ms}", "+inf"))
