"""Replays: new runs over a session's audio, beside the run that its client caused.

A replay is offered on a queue of its own engine, so that workers for clients never wait behind it. Its start, with the
settings that it pins, stands in its own checkpoint; everything after that is as in any other run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from eventlog.codec import decode_audio_event, decode_start, encode
from eventlog.events import LINEAR16, SessionOpened, SessionSealed, SessionStarted
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

LOG, ARCHIVE = "", "archive"
"""The sources of a replay's audio."""


class Progress(NamedTuple):
    """How far a run has come."""

    keys: RunKeys
    processed_samples: int
    total_samples: int
    done: bool
    """Whether its end is committed."""
    exists: bool = True


def pin_start(start: SessionStarted, *, channels: int = 0, **changes: object) -> SessionStarted:
    """Return the start that a replay of the session pins: the audio is PCM by now, `changes` replace other fields.

    Raises:
        msgspec.ValidationError: if a change isn't of its field's type.
    """
    pinned = msgspec.structs.replace(start, encoding=LINEAR16, channels=channels or start.channels, **changes)
    return msgspec.convert(msgspec.to_builtins(pinned), SessionStarted)


class Replays:
    """Starts replays and reads how far they have come."""

    def __init__(self, server: Server, *, session_ttl_s: int) -> None:
        """Use `server`; a replay's keys expire `session_ttl_s` after its last activity."""
        self._server = server
        self._ttl_s = session_ttl_s

    async def read_total_samples(self, keys: SessionKeys) -> int | None:
        """Return how much audio an ended session has in the log; None if it isn't ended, or does not exist.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        last = await self._server.execute("XREVRANGE", keys.audio, "+", "-", "COUNT", 1)
        if not last or last[0][1][0] != b"event":
            return None
        event = decode_audio_event(last[0][1][1])
        return event.offset_samples if isinstance(event, SessionSealed) else None

    async def start(
        self, run: RunKeys, start: SessionStarted, queue: str, *, total_samples: int, source: str = LOG, now_ms: int = 0
    ) -> Code:
        """Start `run` over its session's audio, with the settings pinned in `start`, for workers of `queue`.

        Returns OK; EXISTS if such a run exists, which is offered once more if it needs that; GONE (erased, or its audio
        isn't in the log), NOT_ENDED or TRIMMED (the beginning of the audio was freed), and then changes nothing.

        Raises:
            LogUnavailableError: if Redis can't be reached; try again.
        """
        session, partition, queue_keys = run.session, run.partition, run.partition.queue(queue)
        opened = SessionOpened(
            session_id=run.session_id, run=run.run, sample_rate_hz=start.sample_rate_hz, channels=start.channels,
            language=start.language, engine=start.engine, tenant_id=start.tenant_id, owner_id=start.owner_id,
            encoding=start.encoding, opened_ms=now_ms or await self._server.time_ms(), traceparent=start.traceparent,
        )  # fmt: skip
        return Code(
            await self._server.run(
                script("start_replay"),
                [
                    session.session, session.audio, run.transcript, run.checkpoint, queue_keys.sessions,
                    queue_keys.entries, partition.index, partition.changes, queue_keys.wakeup,
                    partition.changes_wakeup, partition.erased,
                ],
                [run.member, run.session_id, encode(start), encode(opened), self._ttl_s, source, total_samples, queue],
            )
        )  # fmt: skip

    async def read_starts(self, runs: Sequence[RunKeys]) -> list[SessionStarted | None]:
        """Return the start that each run pinned, in order; None where no such replay exists.

        Raises:
            LogUnavailableError: if Redis can't be reached.
            UndecodableEventError: if this build does not know a start.
        """
        answers = await self._server.execute_all([("HGET", run.checkpoint, "start") for run in runs])
        return [None if data is None else decode_start(data) for data in answers]

    async def are_offered(self, runs: Sequence[RunKeys], queue: str) -> list[bool]:
        """Whether each run waits in `queue` or is claimed; one that isn't, and isn't done afterwards, is quarantined.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        answers = await self._server.execute_all(
            [("HEXISTS", run.partition.queue(queue).entries, run.member) for run in runs]
        )
        return [bool(answer) for answer in answers]

    async def read_quarantine_reason(self, run: RunKeys) -> str:
        """Return the reason of a run's last quarantine, empty if none is kept.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        for _, fields in await self._server.execute("XREVRANGE", run.partition.quarantined, "+", "-"):
            listed = dict(zip(fields[::2], fields[1::2], strict=True))
            if listed.get(b"run") == run.member.encode():
                return str(listed.get(b"reason", b"").decode(errors="replace"))
        return ""

    async def read_progress(self, runs: Sequence[RunKeys]) -> list[Progress]:
        """Return how far each run has come, in order.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        answers = await self._server.execute_all(
            [("HMGET", run.checkpoint, "boundaries", "total_samples", "done") for run in runs]
        )
        found = []
        for run, (boundaries, total, done) in zip(runs, answers, strict=True):
            processed = min(msgspec.json.decode(boundaries, type=list[int]), default=0) if boundaries else 0
            found.append(Progress(run, processed, int(total or 0), done is not None, total is not None))
        return found
