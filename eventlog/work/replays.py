"""Replays: new runs over a session's audio, beside the run that its client caused.

A replay is offered on a queue of its own engine, so that workers for clients never wait behind it. Its start, with the
settings that it pins, stands in its own checkpoint; everything after that is as in any other run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from eventlog.codec import decode_audio_event, decode_start, encode
from eventlog.events import LINEAR16, SessionOpened, SessionSealed, SessionStarted
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

LOG, ARCHIVE = "", "archive"
"""Where a replay's audio is read from."""


class Progress(NamedTuple):
    """How far a run is."""

    keys: RunKeys
    processed_samples: int
    total_samples: int
    done: bool
    """Whether its end is committed."""
    exists: bool = True


def replayed(start: SessionStarted, *, channels: int = 0, **changes: object) -> SessionStarted:
    """What a replay of the session begun by `start` pins: the audio is PCM by now, the rest as `changes` has it.

    Raises:
        msgspec.ValidationError: if a change isn't of its field's type.
    """
    pinned = msgspec.structs.replace(start, encoding=LINEAR16, channels=channels or start.channels, **changes)
    return msgspec.convert(msgspec.to_builtins(pinned), SessionStarted)


class Replays:
    """Starts replays and says how far they are."""

    def __init__(self, server: Server, *, session_ttl_s: int) -> None:
        """Use `server`; what a replay writes expires `session_ttl_s` after its last sign of life."""
        self._server = server
        self._ttl_s = session_ttl_s

    async def total_samples(self, keys: SessionKeys) -> int | None:
        """How much audio an ended session has in the log, None if it isn't ended, or not there.

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
        """Begin `run` over its session's audio, with what `start` pins, for workers of `queue`.

        Answers OK; EXISTS if there is such a run, which is offered once more if it needs that; GONE (erased, or its
        audio isn't in the log), NOT_ENDED or TRIMMED (the beginning of the audio was freed), and then changes nothing.

        Raises:
            LogUnavailableError: if Redis can't be reached; try again.
        """
        session, partition, offers = run.session, run.partition, run.partition.queue(queue)
        opened = SessionOpened(
            session_id=run.session_id, run=run.run, sample_rate_hz=start.sample_rate_hz, channels=start.channels,
            language=start.language, engine=start.engine, tenant_id=start.tenant_id, owner_id=start.owner_id,
            encoding=start.encoding, opened_ms=now_ms or await self._server.time_ms(), traceparent=start.traceparent,
        )  # fmt: skip
        return Code(
            await self._server.run(
                script("start_replay"),
                [
                    session.session, session.audio, run.transcript, run.checkpoint, offers.sessions, offers.entries,
                    partition.index, partition.changes, offers.bell, partition.changes_bell, partition.erased,
                ],
                [run.member, run.session_id, encode(start), encode(opened), self._ttl_s, source, total_samples, queue],
            )
        )  # fmt: skip

    async def pinned(self, runs: Sequence[RunKeys]) -> list[SessionStarted | None]:
        """What each run was started with, in order; None where there is no such replay.

        Raises:
            LogUnavailableError: if Redis can't be reached.
            UndecodableEventError: if a start is none of this build.
        """
        answers = await self._server.execute_many([("HGET", run.checkpoint, "start") for run in runs])
        return [None if data is None else decode_start(data) for data in _checked(answers)]

    async def on_offer(self, runs: Sequence[RunKeys], queue: str) -> list[bool]:
        """Whether each run waits in `queue` or is worked on; one that isn't, and isn't done afterwards, was set aside.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        answers = await self._server.execute_many(
            [("HEXISTS", run.partition.queue(queue).entries, run.member) for run in runs]
        )
        return [bool(answer) for answer in _checked(answers)]

    async def why_aside(self, run: RunKeys) -> str:
        """The reason for which a run was set aside last, empty if none is kept.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        for _, fields in await self._server.execute("XREVRANGE", run.partition.quarantined, "+", "-"):
            told = dict(zip(fields[::2], fields[1::2], strict=True))
            if told.get(b"run") == run.member.encode():
                return str(told.get(b"reason", b"").decode(errors="replace"))
        return ""

    async def progress(self, runs: Sequence[RunKeys]) -> list[Progress]:
        """How far each run is, in order.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        answers = await self._server.execute_many(
            [("HMGET", run.checkpoint, "boundaries", "total_samples", "done") for run in runs]
        )
        found = []
        for run, (boundaries, total, done) in zip(runs, _checked(answers), strict=True):
            processed = min(msgspec.json.decode(boundaries, type=list[int]), default=0) if boundaries else 0
            found.append(Progress(run, processed, int(total or 0), done is not None, total is not None))
        return found


def _checked(answers: Sequence[Any]) -> Sequence[Any]:
    """The answers, if none of them is an error."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
