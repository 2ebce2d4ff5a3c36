"""Frees processed audio early on nodes of Redis that are short of memory, longest silent sessions first."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from eventlog.log import LogUnavailableError
from eventlog.redis.memory import Level, Watermarks, node_of, read_memory
from eventlog.work.early_trim import free_processed, iterate_retained_sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eventlog.keys import SessionKeys
    from eventlog.redis.server import Server
    from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at memory: between the marks lie minutes of audio."""

REST_S = 5.0
"""After a walk that came to the end of what there is: only what is processed meanwhile can be freed by the next."""


class EarlyTrimmer:
    """Any number of workers may do this at the same time."""

    def __init__(self, server: Server, settings: WorkerSettings) -> None:
        """Watch the nodes of `server`."""
        self._server = server
        self._keeps_unarchived = settings.keeps_unarchived
        self._limit_bytes = settings.memory_limit_bytes
        self._marks = Watermarks(settings.memory_high_watermark_percent, settings.memory_high_watermark_percent)
        self._short: set[str] = set()

    async def run(self) -> None:
        """Look now and then until cancelled, and free what may go while a node is past the mark."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if await self._look():
                    await self.walk()
                    await asyncio.sleep(REST_S)
            except LogUnavailableError as error:
                log.warning("no memory freed, trying again", extra={"error": error})

    async def walk(self) -> int:
        """Free page by page, of all short nodes' partitions in turn, until none is short; how many entries."""
        freed = 0
        walks: dict[int, AsyncIterator[list[SessionKeys]]] = {
            keys.number: iterate_retained_sessions(self._server, keys) for keys in self._server.keys.partitions
        }
        while walks and await self._look():
            for number, walk in list(walks.items()):
                is_short = node_of(self._server, self._server.keys.partitions[number]) in self._short
                if is_short and (page := await anext(walk, None)) is not None:
                    freed += await free_processed(self._server, page, keeps_unarchived=self._keeps_unarchived)
                else:
                    del walks[number]
        if freed:
            log.warning("processed audio freed early, since Redis is short of memory", extra={"entries": freed})
        return freed

    async def _look(self) -> bool:
        """Whether any node is short of memory now."""
        found = await read_memory(self._server, limit_bytes=self._limit_bytes)
        self._short = {
            name for name, memory in found.items()
            if self._marks.level(memory.percent, Level.CRITICAL if name in self._short else Level.NORMAL) is Level.CRITICAL
        }  # fmt: skip
        return bool(self._short)
