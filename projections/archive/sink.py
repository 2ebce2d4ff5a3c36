"""The sink `archive`: driven as those that tell others of events, it keeps a session's audio and facts for good."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from eventlog.archive.manifest import DamagedArchiveError
from eventlog.archive.progress import ArchiveProgress, PendingErasure
from eventlog.archive.stores import ArchiveUnavailableError, Store
from eventlog.archive.writer import Ended
from eventlog.codec import UndecodableEventError
from eventlog.events import Fact, SessionOpened
from eventlog.log import LogUnavailableError
from eventlog.redis.redis_log import RedisLog
from projections.archive.archiver import Archiver, UnfinishedAudioError
from projections.forwarding.sink import SENT, Outcome, Outgoing, Verdict
from projections.integration_events import Kind, archive_kinds

MOST_EVENTS = 32
"""In one call: most of them say that a part isn't full yet, which costs nothing."""

MOST_CALLS = 4
"""At once: encoding takes a core at a few hundred times real time, and a store's answer some tens of milliseconds."""

LOOK_S = 5.0
"""Between two looks for deleted sessions, as long as somebody may see in the archive what was deleted."""

_GONE = Verdict(Outcome.OFF, "the session was deleted, or has expired")

_logger = logging.getLogger(__name__)


class Archive:
    """The sink `archive`; see `projections.forwarding.sink.Sink`."""

    name = "archive"
    most_events = MOST_EVENTS
    most_calls = MOST_CALLS

    def __init__(self, store: Store, marks: ArchiveProgress, *, session_ttl_s: int, look_s: float = LOOK_S) -> None:
        """Keep sessions in `store`, and look every `look_s` seconds for those that were deleted."""
        self._store = store
        self._marks = marks
        self._look_s = look_s
        self._archiver = Archiver(store, marks, RedisLog(marks.server, session_ttl_s=session_ttl_s))
        self._erasing: asyncio.Task[None] | None = None
        self._erased: set[str] = set()
        """Ids whose objects were deleted here, and are once more when nobody can be at writing any."""

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """Each fact that says how far the audio is processed."""
        return archive_kinds(opened, fact)

    async def start(self) -> None:
        """Begin to look for deleted sessions."""
        if self._erasing is None:
            self._erasing = asyncio.create_task(self._erase_now_and_then(), name="archive erasures")

    async def stop(self) -> None:
        """Stop, and close the store; a write that is under way in a thread ends by itself."""
        erasing, self._erasing = self._erasing, None
        if erasing is not None:
            erasing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await erasing
        self._store.close()

    async def send(self, events: Sequence[Outgoing]) -> Sequence[Verdict]:
        """Archive as far as each event says."""
        verdicts: list[Verdict] = []
        failed: dict[str, Verdict] = {}
        for one in events:
            verdict = failed.get(one.keys.member) or await self._archived(one)
            if verdict.outcome is Outcome.LATER:
                failed[one.keys.member] = verdict
            verdicts.append(verdict)
        return verdicts

    async def _archived(self, one: Outgoing) -> Verdict:
        body = one.event.body
        try:
            if "reason" in body:
                ended = Ended(body["reason"], body["ended_ms"])
                return SENT if await self._archiver.finish(one.keys, ended) else _GONE
            return SENT if await self._archiver.reach(one.keys, body["samples"]) else _GONE
        except (ArchiveUnavailableError, DamagedArchiveError, UnfinishedAudioError) as error:
            return Verdict(Outcome.LATER, str(error))
        except LogUnavailableError:
            return Verdict(Outcome.LATER, "Redis can't be reached")
        except UndecodableEventError:
            return Verdict(Outcome.NEVER, "an event of its audio is none of this build")

    async def _erase_now_and_then(self) -> None:
        while True:
            try:
                everything = await self._marks.pending_erasures()
                self._erased &= {doomed.session_id for doomed in everything}
                for doomed in everything:
                    await self._erase(doomed)
            except (LogUnavailableError, ArchiveUnavailableError) as error:
                _logger.warning("deleted sessions stay in the archive, trying again", extra={"error": error})
            except Exception:
                _logger.exception("erasing from the archive failed, trying again")
            # Spread out, or all processes would delete the same in the same instant.
            await asyncio.sleep(self._look_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

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
