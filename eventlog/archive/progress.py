"""The archive's side of the log: how far each session is archived, and which deleted ones are to be erased there.

A session is marked before anything of it is written. Whoever deletes it then leaves its id for the archive, however
early or late that hears of it.
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
"""Archived up to there: the session is in the archive, complete."""

SETTLED_MS = 600_000
"""A deleted session's objects are deleted again until it is deleted for so long: several times as long as a write
that was under way can last."""


class ArchiveMark(NamedTuple):
    """Where a session stands."""

    start: SessionStarted
    archived_samples: int
    part_samples: int


class PendingErasure(NamedTuple):
    """A deleted session whose objects are to be deleted."""

    partition: PartitionKeys
    session_id: str
    is_settled: bool
    """Whether nobody can be at writing any more, so that the id may go with the objects."""


class ArchiveProgress:
    """Reads and moves them."""

    def __init__(self, server: Server, *, part_s: int, frees: bool) -> None:
        """Cut new sessions every `part_s` seconds; `frees` audio that is archived and processed."""
        self.server = server
        self._part_s = part_s
        self._frees = frees

    async def begin(self, keys: SessionKeys) -> ArchiveMark | None:
        """Mark a session; None if it is gone.

        Raises:
            LogUnavailableError: if Redis can't be reached.
            UndecodableEventError: if it began with an event that is none of this build.
        """
        code, archived, part_s, start = await self.server.run(
            script("begin_archiving"), [keys.session], [self._part_s]
        )
        if code != Code.OK:
            return None
        began = decode_start(start)
        return ArchiveMark(began, int(archived), int(part_s) * began.sample_rate_hz)

    async def note(self, keys: RunKeys, archived_samples: int) -> bool:
        """A session is archived up to there, or `ALL`; False if it is gone, and nothing more is to be written of it.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        session = keys.session
        code = await self.server.run(
            script("note_archived"), [session.session, session.audio, keys.checkpoint],
            [archived_samples, int(self._frees)],
        )  # fmt: skip
        return Code(code) == Code.OK

    async def is_erased(self, keys: SessionKeys) -> bool:
        """Whether a session that is gone was deleted, rather than expired.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        partition = keys.partition
        for ids in (partition.archive_erasures, partition.erased):
            if await self.server.execute("ZSCORE", ids, keys.session_id) is not None:
                return True
        return False

    async def facts(self, keys: RunKeys) -> AsyncIterator[tuple[str, bytes]]:
        """All facts of a run, with their ids.

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

    async def doomed(self) -> list[PendingErasure]:
        """The deleted sessions whose objects are to be deleted, of the partitions that can be reached.

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
                PendingErasure(partition, session_id.decode(), now_ms - float(score) > SETTLED_MS)
                for session_id, score in _pairs(answer)
            ]
        return found

    async def settle(self, doomed: PendingErasure) -> None:
        """Nothing is left of it.

        Raises:
            LogUnavailableError: if Redis can't be reached; it will be deleted once more.
        """
        await self.server.execute("ZREM", doomed.partition.archive_erasures, doomed.session_id)


def _pairs(answer: list[bytes | list[bytes]]) -> list[tuple[bytes, bytes]]:
    """Members and scores, however flat the protocol's version answers them."""
    if answer and isinstance(answer[0], list | tuple):
        return [(one[0], one[1]) for one in answer]  # type: ignore[misc]
    return list(zip(answer[::2], answer[1::2], strict=True))  # type: ignore[arg-type]
