"""Redis's memory as an edge heeds it: past one mark it opens no sessions, past another it appends no audio."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from edge import errors
from edge.errors import ApiError
from edge.session.upload_credit import LOOK_S, ProgressTimeout
from eventlog.log import LogUnavailableError
from eventlog.redis.memory import Level, NodeMemory, Watermarks, node_of, read_memory

if TYPE_CHECKING:
    from edge.session.append_batcher import AppendLog, AppendSource
    from eventlog.keys import PartitionKeys
    from eventlog.redis.server import Server

logger = logging.getLogger(__name__)

SAMPLE_S = 0.5
"""Between two looks. A thousand sessions write 20 MB meanwhile, far less than lies between a mark and the end."""

NEAR_SAMPLE_S = 0.1
"""The same while a mark is near, so that a flood meets it rather than the end. A look costs Redis some 20 µs."""

NEAR_PERCENT = 10.0
"""How near to the first mark that is."""

RETRY_AFTER_S = 5
"""What refused clients are told to wait: memory comes back in steps of trimmed audio, seconds apart."""

MOST_DRAWS = 64
"""Ids drawn for a session on a node with room: of three nodes with one free, all would miss once in 10^11."""


class MemoryWatermarks:
    """What each node's memory asks for now."""

    def __init__(self, server: Server, marks: Watermarks, *, limit_bytes: int = 0) -> None:
        """Heed `marks`; nodes that tell no bound of their own have `limit_bytes`, or none if that is 0."""
        self._server = server
        self._marks = marks
        self._limit_bytes = limit_bytes
        self.nodes: dict[str, NodeMemory] = {}
        """What was found last."""
        self._levels: dict[str, Level] = {}
        self.is_holding = False
        """Whether any node takes no audio: asked for every session that has some."""
        self.requests = 0
        """How many wait for memory."""

    @property
    def level(self) -> Level:
        """What the emptiest node asks for: whether the deployment as a whole takes something."""
        return min(self._levels.values(), default=Level.NORMAL)

    @property
    def worst(self) -> Level:
        """What the fullest node asks for."""
        return max(self._levels.values(), default=Level.NORMAL)

    @property
    def percent(self) -> float | None:
        """How full the fullest node is; None without a bound, or while nobody knows."""
        return max((one.percent for one in self.nodes.values() if one.limit_bytes), default=None)

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            try:
                await self.sample()
            except LogUnavailableError as error:  # told loudly where appends fail; what was known holds on
                logger.debug("memory not looked at", extra={"error": error})
            except Exception:  # what it last asked for must not hold for ever
                logger.exception("looking at Redis's memory failed by a defect")
                self._levels, self.is_holding = {}, False
            near = (self.percent or 0.0) >= self._marks.high_percent - NEAR_PERCENT
            await asyncio.sleep(NEAR_SAMPLE_S if near else SAMPLE_S)

    async def sample(self) -> None:
        """Look once.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        found = await read_memory(self._server, limit_bytes=self._limit_bytes)
        before = self._levels
        levels = {name: self._marks.level(one.percent, before.get(name, Level.NORMAL)) for name, one in found.items()}
        # A node that doesn't answer is as full as it was; one that has left the cluster isn't asked for any more.
        known = {node_of(self._server, partition) for partition in self._server.keys.partitions}
        away = {name: level for name, level in before.items() if name in known and name not in levels}
        self.nodes, self._levels = found, levels | away
        self.is_holding = self.worst is Level.CRITICAL
        for name, level in self._levels.items():
            if level is not before.get(name, Level.NORMAL):
                self._tell(name, level)

    def holds(self, partition: PartitionKeys) -> bool:
        """Whether no audio is to be appended to that partition now."""
        return self.is_holding and self._of(partition) is Level.CRITICAL

    def new_session_id(self) -> str:
        """An id for a new session, where there is room for it.

        Raises:
            ApiError: `memory_full` if there is none.
        """
        session_id = str(uuid.uuid4())
        if self.worst is Level.NORMAL:
            return session_id
        for _ in range(MOST_DRAWS if self.level is Level.NORMAL else 1):
            if self._of(self._server.keys.of(session_id).partition) is Level.NORMAL:
                return session_id
            session_id = str(uuid.uuid4())
        raise ApiError(
            errors.MEMORY_FULL, "Redis is nearly full and takes no new sessions now; try again later",
            retry_after_s=RETRY_AFTER_S,
        )  # fmt: skip

    async def eased(
        self, partition: PartitionKeys, patience_s: float, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> bool:
        """Return once audio may be appended to `partition`; False if that takes longer than `patience_s`.

        `on_wait` is called now and then meanwhile, and may raise what ends the wait.
        """
        deadline = time.monotonic() + patience_s
        self.requests += 1
        try:
            while self.holds(partition):
                if time.monotonic() >= deadline:
                    return False
                if on_wait is not None:
                    await on_wait()
                await asyncio.sleep(LOOK_S)
        finally:
            self.requests -= 1
        return True

    def _of(self, partition: PartitionKeys) -> Level:
        return self._levels.get(node_of(self._server, partition), Level.NORMAL)

    def _tell(self, name: str, level: Level) -> None:
        words = {
            Level.NORMAL: "Redis has memory again",
            Level.HIGH: "Redis is short of memory: no new sessions",
            Level.CRITICAL: "Redis is short of memory: no audio is appended",
        }
        memory = self.nodes.get(name)
        extra = {"node": name, "percent": round(memory.percent, 1) if memory else None}
        (logger.info if level is Level.NORMAL else logger.warning)(words[level], extra=extra)


class MemoryThrottle:
    """The sockets' sessions whose audio waits for memory; read no further meanwhile, since nothing of theirs is acked.

    Control events alone, the end among them, need next to nothing and pass.
    """

    def __init__(
        self, pressure: MemoryWatermarks, log: AppendLog, go_on: Callable[[AppendSource], None], *, gone_s: float
    ) -> None:
        """Heed `pressure`; pass signs of life on to `log`, call `go_on` for whom may append again.

        What a gone connection left is dropped after `gone_s`.
        """
        self._pressure = pressure
        self._log = log
        self._go_on = go_on
        self._gone_s = gone_s
        self._waiting: dict[AppendSource, tuple[float, ProgressTimeout]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def keeps(self, feeder: AppendSource) -> bool:
        """Whether a feeder has to wait, and then have it wait."""
        uplink = feeder.uplink
        if not self._pressure.is_holding or not self._pressure.holds(uplink.keys.partition) or not uplink.has_audio:
            return False
        if feeder not in self._waiting:
            self._waiting[feeder] = time.monotonic(), ProgressTimeout()
        return True

    async def run(self) -> None:
        """Let go on who may, and tell the others' connections how long they wait, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._waiting:
                try:
                    await self._look()
                except LogUnavailableError as error:
                    logger.info("sessions wait for the log", extra={"sessions": len(self._waiting), "error": error})

    async def _look(self) -> None:
        now, touches = time.monotonic(), []
        for feeder, (since, still) in list(self._waiting.items()):
            if not self._pressure.holds(feeder.uplink.keys.partition):
                del self._waiting[feeder]
                self._go_on(feeder)
            elif feeder.abandoned:
                if now - since > self._gone_s:
                    del self._waiting[feeder]
            else:
                feeder.stalled(now - since)
                if still.is_due():
                    touches.append((feeder.uplink.keys, feeder.uplink.epoch))
        if touches:
            await self._log.touch(touches)
