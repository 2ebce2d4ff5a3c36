"""The memory watermarks: past the high one an edge opens no sessions, past the critical one it appends no audio."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from edge import errors
from edge.errors import ApiError
from edge.session.upload_credit import POLL_S
from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.redis.memory import Level, NodeMemory, Watermarks, node_of, read_memory
from eventlog.redis.server import Server

logger = logging.getLogger(__name__)

SAMPLE_S = 0.5
"""Between two samples. A thousand sessions write 20 MB meanwhile, far less than a watermark leaves free."""

NEAR_SAMPLE_S = 0.1
"""The same near a watermark, so that a flood meets it rather than the end. A sample costs Redis some 20 µs."""

NEAR_PERCENT = 10.0
"""How far below the high watermark "near" begins."""

RETRY_AFTER_S = 5
"""For refused clients: trimming frees memory in steps, seconds apart."""

MAX_DRAWS = 64
"""Ids drawn for a session on a node with room: of three nodes with one free, all would miss once in 10^11."""

_MESSAGES = {
    Level.NORMAL: "Redis has memory again",
    Level.HIGH: "Redis short of memory; opening no sessions",
    Level.CRITICAL: "Redis short of memory; appending no audio",
}


class MemoryWatermarks:
    """Which watermark the memory of each node has passed."""

    def __init__(self, server: Server, watermarks: Watermarks, *, limit_bytes: int = 0) -> None:
        """Apply `watermarks`; nodes without a bound of their own have `limit_bytes`, or none if that is 0."""
        self._server = server
        self._watermarks = watermarks
        self._limit_bytes = limit_bytes
        self.nodes: dict[str, NodeMemory] = {}
        """The last sample of each node."""
        self._levels: dict[str, Level] = {}
        self.is_any_critical = False
        """Whether any node takes no audio: read for every session that has some."""
        self.waiting_requests = 0
        """HTTP requests that wait for memory."""

    @property
    def level(self) -> Level:
        """The emptiest node's level: whether the deployment as a whole takes sessions or audio."""
        return min(self._levels.values(), default=Level.NORMAL)

    @property
    def worst(self) -> Level:
        """The fullest node's level."""
        return max(self._levels.values(), default=Level.NORMAL)

    @property
    def percent(self) -> float | None:
        """How full the fullest node is; None without a bound, or before the first sample."""
        return max((one.percent for one in self.nodes.values() if one.limit_bytes), default=None)

    async def run(self) -> None:
        """Sample periodically, more often near a watermark, until cancelled; an outage leaves the levels unchanged."""
        while True:
            try:
                await self.sample()
            except LogUnavailableError as error:  # appends report an outage loudly
                logger.debug("memory not sampled", extra={"error": error})
            is_near = (self.percent or 0.0) >= self._watermarks.high_percent - NEAR_PERCENT
            await asyncio.sleep(NEAR_SAMPLE_S if is_near else SAMPLE_S)

    async def sample(self) -> None:
        """Sample every node's memory once.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        found = await read_memory(self._server, limit_bytes=self._limit_bytes)
        before = self._levels
        levels = {
            name: self._watermarks.level(one.percent, before.get(name, Level.NORMAL)) for name, one in found.items()
        }
        # A node that doesn't answer is as full as it was; the level of one that has left the cluster is dropped.
        known = {node_of(self._server, partition) for partition in self._server.keys.partitions}
        silent = {name: level for name, level in before.items() if name in known and name not in levels}
        self.nodes, self._levels = found, levels | silent
        self.is_any_critical = self.worst is Level.CRITICAL
        for name, level in self._levels.items():
            if level is not before.get(name, Level.NORMAL):
                memory = self.nodes.get(name)
                extra = {"node": name, "percent": round(memory.percent, 1) if memory else None}
                (logger.info if level is Level.NORMAL else logger.warning)(_MESSAGES[level], extra=extra)

    def is_critical(self, partition: PartitionKeys) -> bool:
        """Whether no audio is to be appended to that partition now."""
        return self.is_any_critical and self._level_of(partition) is Level.CRITICAL

    def draw_session_id(self) -> str:
        """Draw an id for a new session on a node with room for it.

        Raises:
            ApiError: `memory_full` if no node has room.
        """
        session_id = str(uuid.uuid4())
        if self.worst is Level.NORMAL:
            return session_id
        for _ in range(MAX_DRAWS if self.level is Level.NORMAL else 1):
            if self._level_of(self._server.keys.of(session_id).partition) is Level.NORMAL:
                return session_id
            session_id = str(uuid.uuid4())
        raise ApiError(
            errors.MEMORY_FULL, "Redis is nearly full and takes no new sessions now; try again later",
            retry_after_s=RETRY_AFTER_S,
        )  # fmt: skip

    async def wait_for_memory(
        self, partition: PartitionKeys, timeout_s: float, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> bool:
        """Return True once audio may be appended to `partition`, or False after `timeout_s`.

        `on_wait` is called now and then meanwhile, and may raise to end the wait.
        """
        deadline = time.monotonic() + timeout_s
        self.waiting_requests += 1
        try:
            while self.is_critical(partition):
                if time.monotonic() >= deadline:
                    return False
                if on_wait is not None:
                    await on_wait()
                await asyncio.sleep(POLL_S)
        finally:
            self.waiting_requests -= 1
        return True

    def _level_of(self, partition: PartitionKeys) -> Level:
        return self._levels.get(node_of(self._server, partition), Level.NORMAL)
