"""The log contract on one Redis or a Redis Cluster."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from eventlog.appender import counts_as_done
from eventlog.codec import decode_start, encode
from eventlog.events import CONTAINER, SessionOpened, SessionSealed, SessionStarted
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Append, Appended, AudioEntry, Code, Commit, Committed, LogUnavailableError, Opened
from eventlog.positions import SEALED, Position
from eventlog.redis.durability import FAST, Durability, DurableCalls
from eventlog.redis.isolated_calls import run_isolated
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

APPENDS_PER_CALL = 200
"""About 1 ms of Redis's time: more would make other clients wait longer than a flush takes anyway."""

KEYS_PER_READ = 250
"""XREAD costs per key even without news; past this a reply holds up the server longer than a millisecond."""

CHUNKS_PER_READ = 256
"""A catch-up takes at most this many entries per stream and call, however small they are."""

CLOSED = "closed"
"""Reason of the end of a session whose client closed its connection and did not resume it."""

NEVER_IDLE_MS = 10**15
"""No session is idle for thousands of years: only a deadline ends it."""

_FIRST_GUESS_CHUNK_BYTES = 3200  # 100 ms of 16 kHz mono, what most clients send


_Part = list[tuple[int, Append]]
"""The appends of one call, each with its number among all."""

_log = logging.getLogger(__name__)


class LogPosition(NamedTuple):
    """How a session was started, its tenant and owner, and the head of its log."""

    start: SessionStarted
    tenant_id: str
    owner_id: str
    epoch: int
    head: Position


class RedisLog:
    """`eventlog.log.EventLog` on Redis Streams; one per process, safe for concurrent use."""

    def __init__(
        self, server: Server, *, session_ttl_s: int, resume_token_ttl_s: int | None = None,
        durability: Durability = FAST,
    ) -> None:  # fmt: skip
        """Use `server`; every per-session key expires `session_ttl_s` after its last activity.

        A resume token expires `resume_token_ttl_s` after it was last used, if that is sooner. What clients get as done
        (appends, openings, where a stream ends) has the `durability` asked for.
        """
        self.server = server
        self.durable_calls = DurableCalls(server, durability)
        self._ttl_s = session_ttl_s
        self._token_ttl_ms = 1000 * (session_ttl_s if resume_token_ttl_s is None else resume_token_ttl_s)
        self._chunk_bytes = float(_FIRST_GUESS_CHUNK_BYTES)

    async def open(self, keys: SessionKeys, start: SessionStarted, token_hash: str) -> Opened:
        """See `EventLog.open`."""
        run, partition = keys.run(), keys.partition
        opened = SessionOpened(
            session_id=start.session_id,
            run=run.run,
            sample_rate_hz=start.sample_rate_hz,
            channels=start.channels,
            language=start.language,
            engine=start.engine,
            tenant_id=start.tenant_id,
            owner_id=start.owner_id,
            encoding=start.encoding,
            opened_ms=start.started_ms,
            traceparent=start.traceparent,
            batch=start.batch,
        )
        code, epoch, head = await self.durable_calls.run_one(
            Call(
                script("open_session"),
                [
                    keys.session, keys.audio, run.transcript, partition.sessions, partition.entries,
                    partition.index, partition.changes, partition.sessions_wakeup, partition.changes_wakeup,
                    partition.erased, keys.upload.session, keys.upload.audio,
                ],
                [
                    token_hash, encode(start), encode(opened), run.member, self._ttl_s, keys.session_id,
                    start.tenant_id, start.owner_id, self._token_ttl_ms, int(start.encoding == CONTAINER),
                ],
            )
        )  # fmt: skip
        return Opened(Code(code), epoch, Position.parse(head), start)

    async def resume(self, keys: SessionKeys, token_hash: str) -> Opened:
        """See `EventLog.resume`. Raising the epoch writes, so the head in the answer has the durability asked for."""
        code, epoch, head, start = await self.durable_calls.run_one(
            Call(
                script("resume_session"), [keys.session, keys.partition.feed_channel],
                [token_hash, keys.run().member, self._token_ttl_ms],
            )
        )
        return Opened(Code(code), epoch, Position.parse(head), decode_start(start) if start else None)

    async def read_position(self, keys: SessionKeys) -> LogPosition | None:
        """Return how a session was started, its tenant and owner, and its log's head; None if it does not exist.

        For a session with an upload, pass `keys.upload` to read the upload's guard instead.
        """
        fields = await self.server.execute("HMGET", keys.session, "start", "tenant", "owner", "guard")
        if fields[0] is None or fields[3] is None:
            return None
        epoch, _, head = fields[3].decode().partition(" ")
        return LogPosition(
            decode_start(fields[0]), (fields[1] or b"").decode(), (fields[2] or b"").decode(),
            int(epoch), Position.parse(head),
        )  # fmt: skip

    async def read_durable_position(self, keys: SessionKeys) -> LogPosition | None:
        """As `read_position`, for answers that say where the stream ends: up to there it has the durability asked for.

        Raises:
            LogUnavailableError: if Redis can't be reached, or too few replicas have all of it.
        """
        while True:
            position = await self.read_position(keys)
            if position is None or position.head == SEALED or not self.durable_calls.durability.replicas:
                return position
            touch = Call(script("touch_sessions"), [keys.session], [position.epoch])
            if await self.durable_calls.run_one(touch):  # else it was resumed meanwhile, and nothing was written
                return position

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """See `EventLog.append`. An append whose call failed raises for all only if every call did.

        One whose effects too few replicas have is UNKNOWN: it is in the log, and appended again it counts as done once
        they have it.
        """
        parts = [
            group[first : first + APPENDS_PER_CALL]
            for group in self.server.groups(list(enumerate(appends)), lambda item: item[1].keys.partition.number)
            for first in range(0, len(group), APPENDS_PER_CALL)
        ]
        results: list[Appended] = [_UNKNOWN] * len(appends)
        while parts:
            requests: list[Call] = []
            for part in parts:
                keys: list[str] = []
                arguments: list[Argument] = []
                for _, append in part:
                    keys += (append.keys.session, append.keys.audio)
                    arguments += (
                        append.epoch, str(append.after), str(append.position), "pcm" if append.is_audio else "event",
                        append.payload,
                    )  # fmt: skip
                requests.append(Call(script("append_audio"), keys, arguments))
            answers, confirmed = await self.durable_calls.run(requests)
            if all(isinstance(answer, LogUnavailableError) for answer in answers):
                raise answers[0]
            has_failed = False
            for part, answer, is_confirmed in zip(parts, answers, confirmed, strict=True):
                if isinstance(answer, LogUnavailableError):
                    continue
                if isinstance(answer, ResponseError):
                    has_failed = True
                    continue
                for (number, append), one in zip(part, answer, strict=True):
                    result = _OK if one == 0 else Appended(Code(one[0]), one[1], Position.parse(one[2]))
                    if is_confirmed or not counts_as_done(result, append.position):
                        results[number] = result
            parts = _split_failed(parts, answers, results) if has_failed else []
        return results

    async def read(
        self, cursors: Mapping[SessionKeys, Position], *, max_bytes_each: int
    ) -> dict[SessionKeys, list[AudioEntry]]:
        """See `EventLog.read`. `max_bytes_each` holds on average: COUNT follows from the size of recent chunks."""
        count = max(1, min(CHUNKS_PER_READ, int(max_bytes_each / self._chunk_bytes)))
        commands: list[tuple[Argument, ...]] = []
        by_stream: dict[bytes, SessionKeys] = {}
        # A thousand streams, dozens of times a second: this loop is the poll's cost, so it calls nothing it needn't.
        for group in self.server.groups(cursors.items(), lambda item: item[0].partition.number):
            for first in range(0, len(group), KEYS_PER_READ):
                part = group[first : first + KEYS_PER_READ]
                streams = [keys.audio_name for keys, _ in part]
                by_stream.update(zip(streams, [keys for keys, _ in part], strict=True))
                ids = [f"{at[0]}-{at[1]}" for _, at in part]
                commands.append(("XREAD", "COUNT", count, "STREAMS", *streams, *ids))
        found: dict[SessionKeys, list[AudioEntry]] = {}
        for answer in await self.server.execute_many(commands):
            if isinstance(answer, LogUnavailableError):
                continue  # a node of the cluster is unreachable; the other nodes' sessions continue
            if isinstance(answer, Exception):
                raise answer
            for stream, entries in answer or ():
                found[by_stream[stream]] = read = []
                # Field order is fixed by the append script: payload first, then the clock.
                for entry_id, (kind, payload, _, clock_ms) in entries:
                    offset, _, sequence = entry_id.partition(b"-")
                    is_pcm = kind == b"pcm"
                    read.append(AudioEntry(
                        Position(int(offset), int(sequence)), payload if is_pcm else None, None if is_pcm else payload,
                        int(clock_ms),
                    ))  # fmt: skip
                if pcm := read[-1].pcm:
                    # A slow average: one odd client shouldn't change all sessions' COUNT.
                    self._chunk_bytes += (len(pcm) - self._chunk_bytes) / 64
        return found

    async def commit(self, commits: Sequence[Commit]) -> list[Committed]:
        """See `EventLog.commit`."""
        calls = []
        for commit in commits:
            claim, checkpoint = commit.claim, commit.checkpoint
            keys, partition, queue = claim.keys, claim.keys.partition, claim.queue_keys
            facts: list[Argument] = []
            for position, fact in commit.facts:
                facts += (str(position), encode(fact))
            calls.append(Call(
                script("commit_facts"),
                [
                    queue.sessions, queue.entries, keys.checkpoint, keys.transcript, partition.changes,
                    partition.changes_wakeup, keys.session.audio, partition.index, keys.session.session,
                ],
                [
                    claim.entry_id, claim.consumer, claim.deliveries, keys.member, checkpoint.serial - 1,
                    checkpoint.serial, str(checkpoint.cursor), msgspec.json.encode(checkpoint.boundaries),
                    checkpoint.utterance, self._ttl_s, str(commit.trim_before or ""), int(commit.ends),
                    int(commit.keeps_unarchived), encode(checkpoint.options) if checkpoint.options else "", *facts,
                ],
            ))  # fmt: skip
        committed = []
        for answer in await self.server.run_many(calls):
            if isinstance(answer, LogUnavailableError):
                committed.append(Committed(Code.UNKNOWN))
                continue
            code, holder, serial = answer
            committed.append(Committed(Code(code), holder.decode(), serial))
        return committed

    async def facts(self, keys: RunKeys, after: Position, *, limit: int = 1000) -> list[tuple[Position, bytes]]:
        """See `EventLog.facts`."""
        if after == SEALED:
            return []  # nothing comes after the end, and Redis refuses a range that starts there
        entries = await self.server.execute("XRANGE", keys.transcript, f"({after}", "+", "COUNT", limit)
        return [(Position.parse(entry_id), fields[1]) for entry_id, fields in entries]

    async def touch(self, touches: Sequence[tuple[SessionKeys, int]]) -> None:
        """Record activity for each (session, epoch); harmless for those that are gone, superseded or broken."""
        def call(part: Sequence[tuple[SessionKeys, int]]) -> Call:
            return Call(script("touch_sessions"), [keys.session for keys, _ in part], [epoch for _, epoch in part])

        for answer in await run_isolated(
            self.server, touches, lambda item: item[0].partition.number, APPENDS_PER_CALL, call
        ):
            if isinstance(answer, LogUnavailableError | NoPermissionError):
                raise answer

    async def seal(self, keys: SessionKeys, reason: str, *, idle_ms: int = 0) -> Code:
        """End a session from outside, if it was idle for `idle_ms` by Redis's clock: OK, GONE, SEALED or NOT_IDLE."""
        [code] = await self.seal_many([keys], reason, idle_ms=idle_ms)
        if code == Code.UNKNOWN:
            raise LogUnavailableError("the session's node doesn't answer")
        return code

    async def seal_many(self, sessions: Sequence[SessionKeys], reason: str, *, idle_ms: int = 0) -> list[Code]:
        """As `seal`, of many sessions in one round trip; UNKNOWN for those whose node can't be reached.

        With `idle_ms` a session is ended as well whose deadline, by `begin_close`, has passed, and as CLOSED.
        """
        events = [encode(SessionSealed(reason=one, offset_samples=0)) for one in (reason, CLOSED)]
        calls = [Call(script("seal_session"), [keys.session, keys.audio], [idle_ms, *events]) for keys in sessions]
        return [
            Code.UNKNOWN if isinstance(answer, LogUnavailableError) else Code(answer[0])
            for answer in await self.server.run_many(calls)
        ]


    async def begin_close(self, sessions: Sequence[tuple[SessionKeys, int]], *, grace_ms: int) -> list[Code]:
        """Have sessions, each under its epoch, end in `grace_ms` by Redis's clock unless they are resumed.

        OK, GONE, SEALED, SUPERSEDED if it is resumed already, or UNKNOWN where a node can't be reached.
        """
        calls = [Call(script("close_session"), [keys.session], [epoch, grace_ms]) for keys, epoch in sessions]
        return [
            Code.UNKNOWN if isinstance(answer, LogUnavailableError) else Code(answer)
            for answer in await self.server.run_many(calls)
        ]

    async def seal_closed(self, sessions: Sequence[SessionKeys]) -> list[Code]:
        """End those whose deadline has passed; NOT_IDLE for the others, UNKNOWN where a node can't be reached."""
        return await self.seal_many(sessions, CLOSED, idle_ms=NEVER_IDLE_MS)


_OK = Appended(Code.OK)
_UNKNOWN = Appended(Code.UNKNOWN)
_BROKEN = Appended(Code.BROKEN)


def _split_failed(parts: Sequence[_Part], answers: Sequence[Any], results: list[Appended]) -> list[_Part]:
    """Return a part for each session of the calls that failed, to be tried alone; one that was alone gets BROKEN.

    A script stops at the first session whose keys it cannot use. What it wrote before counts as done when tried again.
    """
    errors = {
        append.keys: answer
        for part, answer in zip(parts, answers, strict=True) if isinstance(answer, ResponseError)
        for _, append in part
    }  # fmt: skip
    by_session: dict[SessionKeys, _Part] = {keys: [] for keys in errors}
    for item in chain.from_iterable(parts):  # those of other calls too: no later entry without an earlier one
        if (of_session := by_session.get(item[1].keys)) is not None:
            of_session.append(item)
    again: list[_Part] = []
    for keys, error in errors.items():
        if isinstance(error, NoPermissionError):
            raise error  # no session's fault: every call fails
        if by_session[keys] not in parts:
            again.append(by_session[keys])
            continue
        _log.error("append failed by the session's own keys", extra={"session_id": keys.session_id, "error": error})
        for number, _ in by_session[keys]:
            results[number] = _BROKEN
    return again

