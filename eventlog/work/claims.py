"""Claims: which worker processes which run, held as pending entries and fenced by their token.

A run's entry on its partition's ``sessions`` stream is delivered to one consumer of the group ``processor``; while it
is pending it is that worker's claim. Everything a claim allows is checked inside Redis against its token.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from eventlog.codec import UndecodableEventError, decode_fact, decode_start, encode
from eventlog.events import OptionsChanged, RunQuarantined, SessionStarted, SourceNoted
from eventlog.keys import LIVE_QUEUE, PartitionKeys
from eventlog.log import Checkpoint, Claim, Code, LogUnavailableError
from eventlog.positions import Position
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

GROUP = "processor"
"""The consumer group of every ``sessions`` stream; the Lua side names it too."""

QUARANTINED_MAX = 1000
"""Per partition: enough to see a pattern, few enough to list."""

PARTITIONS_PER_TAKE = 16
"""Asked for new entries in one round trip: a read of all 64 takes four, and stops early with enough claims."""

CLAIMS_PER_CALL = 200
"""Renewed by one script: about 1 ms of Redis's time, for more would make appends wait."""

STALL_SHARE = 3
"""A call longer than this part of a lease is a stall: a live worker may take as long from one renewal to the next."""

_boundaries = msgspec.json.Decoder(tuple[int, ...])
_options = msgspec.json.Decoder(OptionsChanged)


class LoadedRun(NamedTuple):
    """Where a claimed run stands."""

    code: Code
    start: SessionStarted | None = None
    checkpoint: Checkpoint = Checkpoint()
    last_fact: Position = Position(0, 0)
    total_samples: int = 0
    """The recording's length, if a fact of this run says so already; always known of a replay."""
    source: str = ""
    """Where the audio is: in the log if empty, else as `eventlog.work.replays` says."""


class ReofferPage(NamedTuple):
    """One page of `Claims.reoffer_missing`."""

    cursor: str
    members: list[str]
    offered: int


class Claims:
    """One worker's claims, under one consumer name; every method may raise `LogUnavailableError`."""

    def __init__(
        self, server: Server, consumer: str, *, lease_ms: int, session_ttl_s: int, queue: str = LIVE_QUEUE
    ) -> None:
        """Act as `consumer` on the runs of `queue`; a claim not renewed for `lease_ms` may be taken over."""
        self.server = server
        self.consumer = consumer
        self.lease_ms = lease_ms
        self.next_takeover_ms = 0
        """How long after the last `take_over` the next claim may be abandoned: looking sooner finds nothing."""
        self.queue = queue
        self._grace_ends_s: dict[int, float] = {}
        """Partitions whose node was unreachable, and the monotonic time from which their claims may be taken over."""
        self._ttl_s = session_ttl_s

    async def ensure_groups(self) -> None:
        """Create the group on every partition, from the first entry on; harmless where it exists.

        A queue of replays lives for a session TTL from the last call on. An unreachable node of a cluster is left out:
        `take_new` finds the group missing on it.
        """
        ttl_s = self._ttl_s if self.queue else 0
        await self.server.run_many(
            [
                Call(script("ensure_group"), [queue.sessions, queue.entries], [ttl_s])
                for queue in (keys.queue(self.queue) for keys in self.server.keys.partitions)
            ]
        )

    async def take_new(self, partitions: Iterable[PartitionKeys], room: int) -> list[Claim]:
        """Claim at most `room` entries that no worker has had yet.

        A lost answer leaves entries pending under this consumer; `take_over` brings them back after a lease. An
        unreachable node of a cluster keeps nothing of the others back.

        Raises:
            LogUnavailableError: if none of the partitions could be asked.
        """
        wanted = list(partitions)
        claims: list[Claim] = []
        failure: LogUnavailableError | None = None
        is_reached = False
        while wanted and (left := room - len(claims)) > 0:
            # No more partitions than `left`: each gives one claim at least.
            count = min(PARTITIONS_PER_TAKE, left)
            part, wanted = wanted[:count], wanted[count:]
            try:
                answers = await self._read_new(part, left // len(part))
            except LogUnavailableError as error:  # all of these; of a cluster other nodes may have the others
                if not self.server.is_cluster:
                    raise
                failure = error
                self.start_grace_period(part)
                continue
            is_reached = True
            claims += [claim for answer in answers for claim in self._new_claims(answer)]
        if failure is not None and not is_reached:
            raise failure
        return claims

    def start_grace_period(self, partitions: Iterable[PartitionKeys]) -> None:
        """Take over no claim of these for a lease: their holders may not be able to renew either."""
        ends_s = time.monotonic() + self.lease_ms / 1000
        self._grace_ends_s.update((keys.number, ends_s) for keys in partitions)

    def start_grace_period_if_away(self) -> bool:
        """As `start_grace_period`, for partitions whose node is known to be unreachable; False if none is."""
        away = [keys for keys in self.server.keys.partitions if self.server.is_unreachable(keys.sessions)]
        self.start_grace_period(away)
        return bool(away)

    async def take_over(self, room: int) -> list[Claim]:
        """Claim at most `room` runs whose holders haven't renewed them for a lease, the own forgotten ones too.

        Own entries come with the token they have: a caller that runs them skips them.

        In two steps: a look, and only then a claim that expires by Redis's own clock. A claim that was sent before
        or during a stall of Redis must not run at its end, when renewals may still lie behind it in the queue.

        Partitions in their grace period are left out.
        """
        started = time.monotonic()
        found = await self._find_abandoned()
        random.shuffle(found)
        part = found[:room]
        if not part or (time.monotonic() - started) * 1000 > self.lease_ms / STALL_SHARE:
            return []
        answers = await self._run_all(
            [keys for keys, _ in part],
            [
                Call(
                    script("take_over_claims"),
                    [keys.queue(self.queue).sessions],
                    [self.consumer, self.lease_ms, room // len(part), now_ms + self.lease_ms // STALL_SHARE],
                )
                for keys, now_ms in part
            ],
        )
        return [
            self._claim(entry_id, member, deliveries)
            for answer in answers
            if not isinstance(answer, LogUnavailableError)
            for entry_id, member, deliveries in answer
        ]

    async def load(self, claims: Sequence[Claim]) -> list[LoadedRun]:
        """Return where each run stands; a takeover raises its suspicion count, once per token.

        GONE and SEALED: nothing is left to do. UNKNOWN: its call failed while others went through; left alone, the
        claim comes back after a lease. OK without a start: the session began with an event that this build does not
        know, so it can't be processed.
        """
        answers = await self.server.run_many(
            [
                Call(
                    script("load_claimed_run"),
                    [
                        claim.queue_keys.sessions, claim.queue_keys.entries, claim.keys.checkpoint,
                        claim.keys.session.session, claim.keys.transcript,
                    ],
                    [claim.entry_id, claim.consumer, claim.deliveries, claim.keys.member, self._ttl_s],
                )
                for claim in claims
            ]
        )  # fmt: skip
        if answers and all(isinstance(answer, LogUnavailableError) for answer in answers):
            raise answers[0]
        loaded = []
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                loaded.append(LoadedRun(Code.UNKNOWN))
                continue
            code, start, fields, last_fact, second = answer
            if code == Code.OK:
                stored = dict(zip(fields[::2], fields[1::2], strict=True))
                loaded.append(
                    LoadedRun(
                        Code.OK, _start(start), _checkpoint(stored), Position.parse(last_fact),
                        int(stored.get(b"total_samples", 0)) or _total(second), stored.get(b"source", b"").decode(),
                    )
                )
            else:
                loaded.append(LoadedRun(Code(code)))
        return loaded

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Reset each claim's idle time; return those that are lost.

        Claims on an unreachable node of a cluster are neither renewed nor lost.
        """
        calls: list[list[Claim]] = []
        for group in self.server.groups(claims, lambda claim: claim.keys.partition.number):
            calls += [group[first : first + CLAIMS_PER_CALL] for first in range(0, len(group), CLAIMS_PER_CALL)]
        # A call holds claims of one partition, but on a single Redis, which answers as a whole or not at all.
        answers = await self._run_all([call[0].keys.partition for call in calls], [_renewal(call) for call in calls])
        return [
            call[number - 1]
            for call, answer in zip(calls, answers, strict=True)
            if not isinstance(answer, LogUnavailableError)
            for number in answer
        ]

    async def hand_over(self, claims: Sequence[Claim], *, clears_suspicion: bool = False) -> None:
        """Offer each run again at once, without raising its suspicion count. Lost claims are left alone.

        `clears_suspicion` also resets the count that it has.

        Raises:
            LogUnavailableError: if some could not be; other workers take them over after a lease.
        """
        answers = await self._run_all(
            [claim.keys.partition for claim in claims],
            [
                Call(
                    script("hand_over_claim"),
                    [
                        claim.queue_keys.sessions, claim.queue_keys.entries, claim.queue_keys.wakeup,
                        claim.keys.checkpoint,
                    ],
                    [claim.entry_id, claim.consumer, claim.deliveries, claim.keys.member, int(clears_suspicion)],
                )
                for claim in claims
            ],
        )  # fmt: skip
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                raise answer

    async def quarantine(self, claim: Claim, reason: str) -> Code:
        """Stop offering a run that can't be processed, and state so; its audio and facts stay for their TTL.

        OK; LOST; GONE or SEALED if the run does not exist or is over.
        """
        keys, partition, session = claim.keys, claim.keys.partition, claim.keys.session
        fact = RunQuarantined(reason=reason, noted_ms=time.time_ns() // 1_000_000)
        code = await self.server.run(
            script("quarantine_claim"),
            [
                claim.queue_keys.sessions, claim.queue_keys.entries, partition.quarantined, keys.checkpoint,
                keys.transcript, partition.changes, partition.changes_wakeup, partition.index, session.session,
                session.audio, session.upload.session, session.upload.audio, session.upload.head,
            ],
            [
                claim.entry_id, claim.consumer, claim.deliveries, keys.member, reason, QUARANTINED_MAX, claim.queue,
                encode(fact), self._ttl_s,
            ],
        )  # fmt: skip
        return Code(code)

    async def reoffer_missing(self, partition: PartitionKeys, cursor: str = "0", *, count: int = 100) -> ReofferPage:
        """Offer the unfinished runs without an entry again, a page at a time; repeat from its cursor until it is 0."""
        queue = partition.queue(self.queue)
        next_cursor, members, offered = await self.server.run(
            script("reoffer_missing"), [queue.sessions, queue.entries, queue.wakeup], [cursor, count]
        )
        return ReofferPage(next_cursor.decode(), [member.decode() for member in members], offered)

    async def delete_consumer(self) -> None:
        """Delete this consumer from every group in which it holds no claim."""
        await self._each_partition("delete_idle_consumers", [self.consumer, 0])

    async def delete_silent_consumers(self, silence_ms: int) -> int:
        """Delete every consumer without claims that was silent for `silence_ms`; return how many."""
        answers = await self._each_partition("delete_idle_consumers", ["", silence_ms])
        return sum(answer for answer in answers if not isinstance(answer, LogUnavailableError))

    async def _each_partition(self, name: str, arguments: Sequence[str | int]) -> list[Any]:
        partitions = self.server.keys.partitions
        return await self._run_all(
            partitions,
            [Call(script(name), [keys.queue(self.queue).sessions], arguments) for keys in partitions],
        )

    async def _run_all(self, partitions: Sequence[PartitionKeys], calls: Sequence[Call]) -> list[Any]:
        """Return every call's answer, or the `LogUnavailableError` of one whose partition's node is unreachable.

        Raises:
            LogUnavailableError: if no answer came at all.
        """
        answers = await self.server.run_many(calls)
        self._start_grace_of_failed(partitions, answers)
        return answers

    def _start_grace_of_failed(self, partitions: Iterable[PartitionKeys], answers: Iterable[Any]) -> None:
        found = zip(partitions, answers, strict=True)
        self.start_grace_period(keys for keys, answer in found if isinstance(answer, LogUnavailableError))

    async def _find_abandoned(self) -> list[tuple[PartitionKeys, int]]:
        """Return the partitions with claims that are idle for a lease, each with its own server's clock (ms)."""
        answers = await self._each_partition("find_abandoned_claims", [self.lease_ms])
        now_s = time.monotonic()
        looked = [
            (keys, int(answer[0]), answer[1])
            for keys, answer in zip(self.server.keys.partitions, answers, strict=True)
            if not isinstance(answer, LogUnavailableError) and now_s >= self._grace_ends_s.get(keys.number, 0.0)
        ]
        left_ms = [self.lease_ms - idle_ms for _, _, idle_ms in looked if 0 < idle_ms < self.lease_ms]
        self.next_takeover_ms = min(left_ms, default=self.lease_ms // 2)
        return [(keys, now_ms) for keys, now_ms, idle_ms in looked if idle_ms >= self.lease_ms]

    async def _read_new(self, partitions: Sequence[PartitionKeys], count: int) -> list[Any]:
        """Return each partition's answer to a read of up to `count` new entries."""
        answers = await self.server.execute_many(
            [
                ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, "STREAMS", queue.sessions, ">")
                for queue in (keys.queue(self.queue) for keys in partitions)
            ]
        )
        self._start_grace_of_failed(partitions, answers)
        if any(isinstance(answer, ResponseError) and _is_missing_group(answer) for answer in answers):
            # An operator emptied Redis under us, or a failover lost the group: the next read needs it again.
            await self.ensure_groups()
        return answers

    def _new_claims(self, answer: Any) -> list[Claim]:  # noqa: ANN401 - Redis's answer, or an exception
        if isinstance(answer, LogUnavailableError):
            return []
        if isinstance(answer, Exception):
            if isinstance(answer, ResponseError) and _is_missing_group(answer):
                return []
            raise answer
        return [
            self._claim(entry_id, fields[1], 1) for _, entries in answer or () for entry_id, fields in entries
        ]

    def _claim(self, entry_id: bytes, member: bytes, deliveries: int) -> Claim:
        return Claim(self.server.keys.of_run(member.decode()), entry_id.decode(), self.consumer, deliveries, self.queue)


def _is_missing_group(error: ResponseError) -> bool:
    return str(error).startswith("NOGROUP")


def _renewal(claims: Sequence[Claim]) -> Call:
    arguments: list[str | int] = []
    for claim in claims:
        arguments += (claim.entry_id, claim.consumer, claim.deliveries)
    return Call(script("renew_claims"), [claim.queue_keys.sessions for claim in claims], arguments)


def _start(data: bytes) -> SessionStarted | None:
    try:
        return decode_start(data)
    except UndecodableEventError:  # one such session mustn't keep the others of the same call from being loaded
        return None


def _total(second_fact: bytes) -> int:
    """Return the recording's length: the second fact of a recording's run has it, another run's has not."""
    try:
        fact = decode_fact(second_fact) if second_fact else None
    except UndecodableEventError:
        return 0
    return fact.duration_samples if isinstance(fact, SourceNoted) else 0


def _checkpoint(stored: Mapping[bytes, bytes]) -> Checkpoint:
    return Checkpoint(
        cursor=Position.parse(stored.get(b"cursor", b"0-0")),
        boundaries=_boundaries.decode(stored.get(b"boundaries", b"[]")),
        utterance=int(stored.get(b"utterance", 0)),
        options=_options.decode(stored[b"options"]) if b"options" in stored else None,
        serial=int(stored.get(b"serial", 0)),
        suspicion=int(stored.get(b"suspicion", 0)),
        done=b"done" in stored,
    )
