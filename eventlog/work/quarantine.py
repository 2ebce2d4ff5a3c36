"""Quarantined runs: listed, offered to workers again, or failed permanently.

Their audio, facts and list entries live for one session TTL from the quarantine on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from eventlog.codec import UndecodableEventError, decode_audio_event, decode_fact, encode
from eventlog.events import RunRedriven, SessionEnded, SessionOpened, SessionSealed
from eventlog.keys import LIVE_RUN, PartitionKeys, RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.positions import OPENED
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

PARTITIONS_PER_READ = 8
"""Some 2 MB at worst, of lists at their longest."""

FAILED = "failed"
"""The reason of a run's end that an operator decided."""

_UNKNOWN_HZ = 16_000  # of a run whose first fact can't be read: its counts are in the audio's own samples


class QuarantinedRun(NamedTuple):
    """One quarantined run."""

    partition: PartitionKeys
    entry_id: str
    keys: RunKeys
    reason: str
    consumer: str
    """The worker that quarantined it."""
    queue: str = ""
    """Where it was offered, see `eventlog.keys.QueueKeys`."""
    times: int = 1
    """How often it was quarantined by now."""

    @property
    def id(self) -> str:
        """Its name over all partitions."""
        return f"{self.partition.number}:{self.entry_id}"

    @property
    def at_ms(self) -> int:
        """Time of the quarantine by Redis's clock, Unix ms."""
        return int(self.entry_id.partition("-")[0])


async def list_quarantined_runs(server: Server) -> AsyncIterator[QuarantinedRun]:
    """Yield all quarantined runs, partition by partition, the oldest of each first.

    Raises:
        LogUnavailableError: if a part of Redis can't be reached.
    """
    partitions = server.keys.partitions
    for first in range(0, len(partitions), PARTITIONS_PER_READ):
        some = partitions[first : first + PARTITIONS_PER_READ]
        answers = await server.execute_all([("XRANGE", keys.quarantined, "-", "+") for keys in some])
        for partition, answer in zip(some, answers, strict=True):
            for entry_id, fields in answer:
                yield _parse(server, partition, entry_id, fields)


class Quarantine:
    """An operator's decisions on quarantined runs."""

    def __init__(self, server: Server, *, session_ttl_s: int) -> None:
        """Use `server`; a redriven run expires `session_ttl_s` after its last activity."""
        self._server = server
        self._ttl_s = session_ttl_s
        self._log = RedisLog(server, session_ttl_s=session_ttl_s)

    async def redrive(self, run: QuarantinedRun) -> Code:
        """Offer it to workers again: it continues after its last commit, so no final changes.

        OK; LOST if it isn't listed; GONE, SEALED or EXISTS if the run does not exist, is over, or is offered already,
        and then it isn't listed any more.

        Raises:
            LogUnavailableError: if Redis can't be reached; try again.
        """
        keys, session, partition, queue = run.keys, run.keys.session, run.partition, run.partition.queue(run.queue)
        return Code(
            await self._server.run(
                script("redrive_quarantined"),
                [
                    partition.quarantined, keys.checkpoint, keys.transcript, queue.sessions, queue.entries,
                    queue.wakeup, partition.index, partition.changes, partition.changes_wakeup, session.session,
                    session.audio, session.upload.session, session.upload.audio, session.upload.head,
                ],
                [
                    run.entry_id, keys.member, encode(RunRedriven(noted_ms=_now_ms())), self._ttl_s,
                    self._ttl_s if run.queue else 0,
                ],
            )
        )  # fmt: skip

    async def fail(self, run: QuarantinedRun) -> Code:
        """End it permanently, as failed; its client or waiting HTTP request is notified. Codes as `redrive`.

        Raises:
            LogUnavailableError: if Redis can't be reached; try again.
        """
        keys, partition, queue = run.keys, run.partition, run.partition.queue(run.queue)
        fact = await self._ended(run)
        code = Code(
            await self._server.run(
                script("fail_quarantined"),
                [
                    partition.quarantined, keys.checkpoint, keys.transcript, queue.sessions, queue.entries,
                    partition.index, partition.changes, partition.changes_wakeup,
                ],
                [run.entry_id, keys.member, encode(fact), self._ttl_s],
            )
        )  # fmt: skip
        if code == Code.OK and keys.run == LIVE_RUN:
            # Only now, since another operator may have redriven it before; audio acked in between belongs to no run.
            for sealed in await self._log.seal_many([keys.session.upload, keys.session], FAILED):
                if sealed == Code.UNKNOWN:
                    raise LogUnavailableError("the run was failed, but its session's audio could not be sealed")
        return code

    async def _ended(self, run: QuarantinedRun) -> SessionEnded:
        keys = run.keys
        (boundaries, utterance, total), opened, last = await self._server.execute_all([
            ("HMGET", keys.checkpoint, "boundaries", "utterance", "total_samples"),
            ("XRANGE", keys.transcript, str(OPENED), str(OPENED)),
            ("XREVRANGE", keys.session.audio, "+", "-", "COUNT", 1),
        ])  # fmt: skip
        processed = min(msgspec.json.decode(boundaries, type=list[int]), default=0) if boundaries else 0
        return SessionEnded(
            reason=FAILED, audio_samples=int(total or 0) or _audio_samples(last) or processed,
            utterances=int(utterance or 0), sample_rate_hz=_sample_rate_hz(opened), ended_ms=_now_ms(),
            detail=f"quarantined: {run.reason}",
        )  # fmt: skip


def _parse(server: Server, partition: PartitionKeys, entry_id: bytes, flat: Sequence[bytes]) -> QuarantinedRun:
    fields = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    # Without queue and number of times where an earlier version wrote it.
    return QuarantinedRun(
        partition, entry_id.decode(), server.keys.of_run(fields["run"]), fields.get("reason", ""),
        fields.get("consumer", ""), fields.get("queue", ""), int(fields.get("times", 1)),
    )  # fmt: skip


def _audio_samples(last_entry: Sequence[Any]) -> int:
    """Return where the audio ends; 0 if that isn't known."""
    for _, fields in last_entry:
        try:
            event = decode_audio_event(fields[1]) if fields[0] == b"event" else None
        except UndecodableEventError:
            return 0
        return event.offset_samples if isinstance(event, SessionSealed) else 0
    return 0


def _sample_rate_hz(first_fact: Sequence[Any]) -> int:
    for _, fields in first_fact:
        try:
            fact = decode_fact(fields[1])
        except UndecodableEventError:
            return _UNKNOWN_HZ
        return fact.sample_rate_hz if isinstance(fact, SessionOpened) else _UNKNOWN_HZ
    return _UNKNOWN_HZ


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
