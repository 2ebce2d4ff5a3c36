"""The sink `archive`: driven as every sink, it keeps a session's audio and facts permanently."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventlog.archive.manifest import DamagedArchiveError
from eventlog.archive.progress import ArchiveProgress, PendingErasure
from eventlog.archive.stores import ArchiveUnavailableError, Store
from eventlog.archive.writer import Ended
from eventlog.codec import UndecodableEventError
from eventlog.log import LogUnavailableError
from eventlog.redis.redis_log import RedisLog
from eventlog.service import ServiceTasks, periodically
from projections.archive.archiver import Archiver, UnfinishedAudioError
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event, archive_kinds

MOST_EVENTS = 32
"""In one call: most of them say that a part isn't full yet, which costs nothing."""

MOST_CALLS = 4
"""At once: encoding takes a core at a few hundred times real time, and a store's answer some tens of milliseconds."""

LOOK_S = 5.0
"""Between two looks for deleted sessions: for so long an operator may still see them in the archive."""

_GONE = Result(Outcome.SKIPPED, "the session was deleted, or has expired")

_logger = logging.getLogger(__name__)


class Archive:
    """The sink `archive`; see `projections.forwarding.sink.Sink`."""

    name = "archive"
    most_events = MOST_EVENTS
    most_calls = MOST_CALLS
    kinds = staticmethod(archive_kinds)

    def __init__(self, store: Store, marks: ArchiveProgress, *, session_ttl_s: int, look_s: float = LOOK_S) -> None:
        """Keep sessions in `store`, and look every `look_s` seconds for those that were deleted."""
        self._store = store
        self._marks = marks
        self._look_s = look_s
        self._archiver = Archiver(store, marks, RedisLog(marks.server, session_ttl_s=session_ttl_s))
        self._tasks = ServiceTasks()
        self._is_started = False
        self._erased: set[str] = set()
        """Ids whose objects were deleted here, and are once more when no process can still be writing any."""

    async def start(self) -> None:
        """Begin to look for deleted sessions."""
        if not self._is_started:
            self._is_started = True
            # Spread out, or all processes would delete the same in the same instant.
            work = periodically(
                self._look_s, self._erase_deleted, name="archive erasures", jitter=0.5, at_once=True
            )
            self._tasks.spawn("archive erasures", work)

    async def stop(self) -> None:
        """Stop, and close the store; a write that is under way in a thread ends by itself."""
        await self._tasks.stop()
        self._store.close()

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """Archive as far as each event says."""
        results: list[Result] = []
        failed: dict[str, Result] = {}
        for event in events:
            result = failed.get(event.session_id) or await self._archive(event)
            if result.outcome is Outcome.RETRY:
                failed[event.session_id] = result
            results.append(result)
        return results

    async def _archive(self, event: Event) -> Result:
        keys, body = self._marks.server.keys.of(event.session_id).run(), event.body
        try:
            if "reason" in body:
                ended = Ended(body["reason"], body["ended_ms"])
                return SENT if await self._archiver.finish(keys, ended) else _GONE
            return SENT if await self._archiver.reach(keys, body["samples"]) else _GONE
        except (ArchiveUnavailableError, DamagedArchiveError, UnfinishedAudioError) as error:
            return Result(Outcome.RETRY, str(error))
        except LogUnavailableError:
            return Result(Outcome.RETRY, "Redis can't be reached")
        except UndecodableEventError:
            return Result(Outcome.REJECTED, "an event of its audio is unknown to this build")

    async def _erase_deleted(self) -> None:
        try:
            everything = await self._marks.pending_erasures()
            self._erased &= {doomed.session_id for doomed in everything}
            for doomed in everything:
                await self._erase(doomed)
        except (LogUnavailableError, ArchiveUnavailableError) as error:
            _logger.warning("deleted sessions not erased from the archive; retrying", extra={"error": error})

    async def _erase(self, doomed: PendingErasure) -> None:
        if doomed.session_id in self._erased and not doomed.is_final:
            return
        deleted = await self._archiver.erase(doomed.session_id)
        if deleted:
            _logger.info("session erased from the archive", extra={"session_id": doomed.session_id, "objects": deleted})
        self._erased.add(doomed.session_id)
        if doomed.is_final:
            await self._marks.finish_erasure(doomed)
            self._erased.discard(doomed.session_id)
