"""Frees processed audio early on nodes of Redis that are short of memory, longest silent sessions first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from eventlog.keys import SessionKeys
from eventlog.redis.memory import Level, Watermarks, node_of, read_memory
from eventlog.redis.server import Server
from eventlog.service import periodically
from eventlog.work.early_trim import free_processed, iterate_retained_sessions
from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

CHECK_S = 1.0
"""Between two checks of memory: minutes of audio lie between the watermarks."""

PAUSE_S = 5.0
"""After a walk over all sessions: only audio processed meanwhile can be freed by the next."""


class EarlyTrimmer:
    """Any number of workers may do this at the same time."""

    def __init__(self, server: Server, settings: WorkerSettings) -> None:
        """Watch the nodes of `server`."""
        self._server = server
        self._keeps_unarchived = settings.keeps_unarchived
        self._limit_bytes = settings.memory_limit_bytes
        self._watermarks = Watermarks(settings.memory_high_watermark_percent, settings.memory_high_watermark_percent)
        self._short_nodes: set[str] = set()

    async def run(self) -> None:
        """Check memory periodically until cancelled, and free audio while a node is past its watermark."""
        await periodically(CHECK_S, self._trim_if_short, name="early trim")

    async def _trim_if_short(self) -> None:
        if await self._is_short():
            await self.trim()
            await asyncio.sleep(PAUSE_S)

    async def trim(self) -> int:
        """Free page by page, of all short nodes' partitions in turn, until none is short; returns how many entries."""
        freed = 0
        walks: dict[int, AsyncIterator[list[SessionKeys]]] = {
            keys.number: iterate_retained_sessions(self._server, keys) for keys in self._server.keys.partitions
        }
        while walks and await self._is_short():
            for number, walk in list(walks.items()):
                is_short = node_of(self._server, self._server.keys.partitions[number]) in self._short_nodes
                if is_short and (page := await anext(walk, None)) is not None:
                    freed += await free_processed(self._server, page, keeps_unarchived=self._keeps_unarchived)
                else:
                    del walks[number]
        if freed:
            log.warning("Redis short of memory; processed audio freed early", extra={"entries": freed})
        return freed

    async def _is_short(self) -> bool:
        """Whether any node is short of memory now."""
        found = await read_memory(self._server, limit_bytes=self._limit_bytes)
        self._short_nodes = {
            name for name, memory in found.items()
            if self._watermarks.level(memory.percent, Level.CRITICAL if name in self._short_nodes else Level.NORMAL)
            is Level.CRITICAL
        }  # fmt: skip
        return bool(self._short_nodes)
