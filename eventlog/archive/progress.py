"""Archiving's state in the log: how far each session is archived, and which erased ones the archive must erase too.

A session is marked before any part of it is written. Erasing a marked session leaves its id for the archive, however
early or late the archive reads it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from eventlog.codec import decode_start
from eventlog.events import SessionStarted
from eventlog.keys import PartitionKeys, RunKeys, SessionKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.projection_log import FACTS_PER_PULL
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

ALL = 2**64 - 1
"""Archived up to this position: the session's archive is complete."""

ERASURE_GRACE_MS = 600_000
"""An erased session's objects are deleted again until it has been erased for so long: several times as long as a write
that was under way can last."""


class ArchiveState(NamedTuple):
    """How far a session is archived."""

    start: SessionStarted
    archived_samples: int
    part_samples: int


class PendingErasure(NamedTuple):
    """An erased session whose objects must be deleted."""

    partition: PartitionKeys
    session_id: str
    is_final: bool
    """Whether no writer can be active any more, so that the id may go with the objects."""


class ArchiveProgress:
    """Reads and records how far sessions are archived."""

    def __init__(self, server: Server, *, part_s: int, frees: bool) -> None:
        """Cut new sessions every `part_s` seconds; `frees` audio that is archived and processed."""
        self.server = server
        self._part_s = part_s
        self._frees = frees

    async def start(self, keys: SessionKeys) -> ArchiveState | None:
        """Mark a session; None if it is gone.

        Raises:
            LogUnavailableError: if Redis can't be reached.
            UndecodableEventError: if this build does not know the event that it started with.
        """
        code, archived, part_s, data = await self.server.run(
            script("begin_archiving"), [keys.session], [self._part_s]
        )
        if code != Code.OK:
            return None
        start = decode_start(data)
        return ArchiveState(start, int(archived), int(part_s) * start.sample_rate_hz)

    async def record(self, keys: RunKeys, archived_samples: int) -> bool:
        """Record that a session is archived up to a position, or `ALL`; False if it is gone: write no more of it.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        session = keys.session
        code = await self.server.run(
            script("record_archived"), [session.session, session.audio, keys.checkpoint],
            [archived_samples, int(self._frees)],
        )  # fmt: skip
        return Code(code) == Code.OK

    async def is_erased(self, keys: SessionKeys) -> bool:
        """Whether a session that is gone was erased, rather than expired.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        partition = keys.partition
        for ids in (partition.archive_erasures, partition.erased):
            if await self.server.execute("ZSCORE", ids, keys.session_id) is not None:
                return True
        return False

    async def facts(self, keys: RunKeys) -> AsyncIterator[tuple[str, bytes]]:
        """Yield all facts of a run, with their ids.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        after = "-"
        while True:
            page = await self.server.execute("XRANGE", keys.transcript, after, "+", "COUNT", FACTS_PER_PULL)
            for entry_id, fields in page:
                yield entry_id.decode(), fields[1]
            if len(page) < FACTS_PER_PULL:
                return
            after = f"({page[-1][0].decode()}"

    async def pending_erasures(self) -> list[PendingErasure]:
        """Return the erased sessions whose objects must be deleted, of the partitions that can be reached.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        partitions = self.server.keys.partitions
        now_ms = await self.server.time_ms()
        answers = await self.server.execute_many(
            [("ZRANGE", partition.archive_erasures, 0, "-1", "WITHSCORES") for partition in partitions]
        )
        found: list[PendingErasure] = []
        for partition, answer in zip(partitions, answers, strict=True):
            if isinstance(answer, LogUnavailableError):
                continue
            if isinstance(answer, Exception):
                raise answer
            found += [
                PendingErasure(partition, session_id.decode(), now_ms - float(score) > ERASURE_GRACE_MS)
                for session_id, score in _pairs(answer)
            ]
        return found

    async def finish_erasure(self, erasure: PendingErasure) -> None:
        """Record that the archive holds nothing of the session any more.

        Raises:
            LogUnavailableError: if Redis can't be reached; its objects will be deleted once more.
        """
        await self.server.execute("ZREM", erasure.partition.archive_erasures, erasure.session_id)


def _pairs(answer: list[bytes | list[bytes]]) -> list[tuple[bytes, bytes]]:
    """Return members and scores, nested or flat as the protocol's version answers them."""
    if answer and isinstance(answer[0], list | tuple):
        return [(one[0], one[1]) for one in answer]  # type: ignore[misc]
    return list(zip(answer[::2], answer[1::2], strict=True))  # type: ignore[arg-type]
