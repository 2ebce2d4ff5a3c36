"""Ends idle sessions, restores lost entries, deletes silent consumers, trims notices: every worker does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from eventlog.keys import LIVE_RUN, PartitionKeys, SessionKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.projection_log import trim_changes
from eventlog.redis.redis_log import RedisLog
from eventlog.service import periodically
from eventlog.work.claims import Claims
from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

SPREAD = 0.25
"""Share of the time between two sweeps that one takes; sessions end punctually to that."""

SILENT_LEASES = 60
"""A consumer is deleted after this many leases of silence: long after its claims were taken over."""


class Janitor:
    """Sweeps over all partitions; every step is harmless when several workers do it at once."""

    def __init__(self, log_: RedisLog, claims: Claims, settings: WorkerSettings) -> None:
        """Seal through `log_`, sweep entries through `claims`."""
        self._log = log_
        self._claims = claims
        self._settings = settings

    async def run(self) -> None:
        """Sweep periodically until cancelled."""
        await periodically(self._settings.sweep_s, self.sweep, name="sweep")

    async def sweep(self) -> None:
        """Sweep all partitions once."""
        server = self._claims.server
        for partition in server.keys.partitions:
            try:
                await self._sweep_partition(partition)
            except LogUnavailableError as error:
                if not server.is_cluster:
                    raise
                log.info("partition not swept", extra={"partition": partition.number, "error": error})
            # Thousands of sessions at once would delay their audio for a noticeable time.
            await asyncio.sleep(SPREAD * self._settings.sweep_s / len(server.keys.partitions))
        if self._claims.queue:
            await self._claims.ensure_groups()  # keeps the queue alive
        await self._forget_expired()
        walking = await trim_changes(server, server.keys.partitions, most=self._settings.changes_max_notices)
        if walking:
            log.warning("notices trimmed unread; projections walk the index", extra={"partitions": walking})
        retired = await self._claims.delete_silent_consumers(SILENT_LEASES * self._settings.lease_ms)
        if retired:
            log.info("silent consumers deleted", extra={"consumers": retired})

    async def _sweep_partition(self, partition: PartitionKeys) -> None:
        cursor = "0"
        while True:
            swept = await self._claims.reoffer_missing(partition, cursor)
            if swept.offered:
                log.warning("runs without entry restored", extra={"runs": swept.offered})
            await self._end_idle(swept.members)
            cursor = swept.cursor
            if cursor == "0":
                return

    async def _forget_expired(self) -> None:
        """Remove runs from the index whose keys have all expired: none was renewed for a TTL."""
        server = self._claims.server
        oldest_ms = await server.time_ms() - self._settings.session_ttl_s * 1000
        commands: list[tuple[str | int, ...]] = []
        for keys in server.keys.partitions:
            commands.append(("ZREMRANGEBYSCORE", keys.index, "-inf", f"({oldest_ms}"))
            commands.append(("XTRIM", keys.quarantined, "MINID", oldest_ms))  # their runs' keys have expired too
        await server.execute_many(commands)

    async def _end_idle(self, members: Sequence[str]) -> None:
        runs = map(self._claims.server.keys.of_run, members)
        sessions = [run.session for run in runs if run.run == LIVE_RUN]
        # With an upload, its decoder seals the audio, hours of which may still have to be decoded.
        codes = await self._seal([keys.upload for keys in sessions])
        await self._seal([keys for keys, code in zip(sessions, codes, strict=True) if code == Code.GONE])

    async def _seal(self, sessions: Sequence[SessionKeys]) -> list[Code]:
        codes = await self._log.seal_many(sessions, "idle", idle_ms=self._settings.idle_ms)
        for keys, code in zip(sessions, codes, strict=True):
            if code == Code.OK:
                log.info("idle session ended", extra={"session_id": keys.session_id})
        return codes
