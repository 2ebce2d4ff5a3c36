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
from eventlog.events import RunQuarantined, SessionStarted, SourceNoted
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
"""Asked for new entries in one round trip: a look at 64 takes four, and stops early where there is enough."""

CLAIMS_PER_CALL = 200
"""Renewed by one script: about 1 ms of Redis's time, for more would make appends wait."""

STALL_SHARE = 3
"""A call longer than this part of a lease is a stall: as long as the living may take from one renewal to the next."""

_boundaries = msgspec.json.Decoder(tuple[int, ...])


class Begun(NamedTuple):
    """Where a claimed run stands."""

    code: Code
    start: SessionStarted | None = None
    checkpoint: Checkpoint = Checkpoint()
    last_fact: Position = Position(0, 0)
    total_samples: int = 0
    """The recording's length, if a fact of this run says so already; always known of a replay."""
    source: str = ""
    """Where the audio is: in the log if empty, else what `eventlog.work.replays` says."""


class Swept(NamedTuple):
    """One step of the sweep over unfinished runs."""

    cursor: str
    members: list[str]
    offered: int


class Claims:
    """One worker's dealings with claims, under one consumer name; every method may raise `LogUnavailableError`."""

    def __init__(
        self, server: Server, consumer: str, *, lease_ms: int, session_ttl_s: int, queue: str = LIVE_QUEUE
    ) -> None:
        """Act as `consumer` on the runs of `queue`; a claim not renewed for `lease_ms` may be taken over."""
        self.server = server
        self.consumer = consumer
        self.lease_ms = lease_ms
        self.due_ms = 0
        """How long after the last `take_over` the next claim may be abandoned: looking sooner finds nothing."""
        self.queue = queue
        self._calm_from: dict[int, float] = {}
        """Partitions whose node was away, and the monotonic time (s) from which their claims may be taken over."""
        self._ttl_s = session_ttl_s

    async def ensure_groups(self) -> None:
        """Create the group on every partition, from the first entry on; harmless where it exists.

        A queue of replays lives for a session TTL from the last call on. Where a node of a cluster is away it is left
        out: `take_new` finds the group missing there.
        """
        ttl_s = self._ttl_s if self.queue else 0
        await self.server.run_many(
            [
                Call(script("ensure_group"), [queue.sessions, queue.entries], [ttl_s])
                for queue in (keys.queue(self.queue) for keys in self.server.keys.partitions)
            ]
        )

    async def take_new(self, partitions: Iterable[PartitionKeys], room: int) -> list[Claim]:
        """Claim at most `room` entries that nobody had yet.

        A lost answer leaves entries pending under this consumer; `take_over` brings them back after a lease. Trouble
        with one node of a cluster keeps nothing of the others back.

        Raises:
            LogUnavailableError: if none of the partitions could be asked.
        """
        wanted = list(partitions)
        claims: list[Claim] = []
        trouble: LogUnavailableError | None = None
        reached = False
        while wanted and (left := room - len(claims)) > 0:
            # No more partitions than there is room for: each gives one at least.
            count = min(PARTITIONS_PER_TAKE, left)
            part, wanted = wanted[:count], wanted[count:]
            try:
                answers = await self._read_new(part, left // len(part))
            except LogUnavailableError as error:  # all of these; of a cluster other nodes may have the others
                if not self.server.is_cluster:
                    raise
                trouble = error
                self.calm(part)
                continue
            reached = True
            claims += [claim for answer in answers for claim in self._new_claims(answer)]
        if trouble is not None and not reached:
            raise trouble
        return claims

    def calm(self, partitions: Iterable[PartitionKeys]) -> None:
        """Take over nothing of these for a lease: their holders may not be able to renew either."""
        calm_from = time.monotonic() + self.lease_ms / 1000
        self._calm_from.update((keys.number, calm_from) for keys in partitions)

    def calm_away(self) -> bool:
        """As `calm`, where a node of a cluster is known to be away; False if none is."""
        away = [keys for keys in self.server.keys.partitions if self.server.is_away(keys.sessions)]
        self.calm(away)
        return bool(away)

    async def take_over(self, room: int) -> list[Claim]:
        """Claim at most `room` runs whose holders haven't renewed them for a lease, the own forgotten ones too.

        Own entries come with the token they have: a caller that runs them skips them.

        In two steps: a look, and only then a claim that expires by Redis's own clock. A claim that was sent before
        or during a stall of Redis must not run at its end, when renewals may still lie behind it in the queue.

        Partitions whose node of a cluster is away, or was within the last lease, are left out: their holders may not
        have been able to renew.
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

    async def begin(self, claims: Sequence[Claim]) -> list[Begun]:
        """Where each run stands; a takeover counts as a suspicion, once. GONE and SEALED: nothing is left to do.

        UNKNOWN: its call failed while others went through; left alone, the claim comes back after a lease.

        OK without a start: what the session began with is no event that this build knows, so it can't be processed.
        """
        answers = await self.server.run_many([self._beginning(claim) for claim in claims])
        if answers and all(isinstance(answer, LogUnavailableError) for answer in answers):
            raise answers[0]
        begun = []
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                begun.append(Begun(Code.UNKNOWN))
                continue
            code, start, fields, last_fact, second = answer
            if code == Code.OK:
                stored = dict(zip(fields[::2], fields[1::2], strict=True))
                begun.append(
                    Begun(
                        Code.OK, _start(start), _checkpoint(stored), Position.parse(last_fact),
                        int(stored.get(b"total_samples", 0)) or _total(second), stored.get(b"source", b"").decode(),
                    )
                )
            else:
                begun.append(Begun(Code(code)))
        return begun

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Reset each claim's idle time; answers those that are lost.

        Where a node of a cluster is away its claims are neither.
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

    async def hand_over(self, claims: Sequence[Claim], *, absolved: bool = False) -> None:
        """Offer each run afresh: whoever has room takes it at once, and nobody is suspected. Lost ones are left.

        `absolved` drops the suspicions that there were already.

        Raises:
            LogUnavailableError: if some could not be; others take them after a lease.
        """
        answers = await self._run_all(
            [claim.keys.partition for claim in claims],
            [
                Call(
                    script("hand_over_claim"),
                    [
                        claim.offers.sessions, claim.offers.entries, claim.offers.bell, claim.keys.checkpoint,
                    ],
                    [claim.entry_id, claim.consumer, claim.deliveries, claim.keys.member, int(absolved)],
                )
                for claim in claims
            ],
        )  # fmt: skip
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                raise answer

    async def quarantine(self, claim: Claim, reason: str) -> Code:
        """Stop offering a run that can't be processed, and state so; its audio and facts stay for their TTL.

        OK, LOST, or GONE or SEALED where nothing was left to set aside.
        """
        keys, partition, session = claim.keys, claim.keys.partition, claim.keys.session
        fact = RunQuarantined(reason=reason, noted_ms=time.time_ns() // 1_000_000)
        code = await self.server.run(
            script("set_aside_claim"),
            [
                claim.offers.sessions, claim.offers.entries, partition.quarantined, keys.checkpoint, keys.transcript,
                partition.changes, partition.changes_bell, partition.index, session.session, session.audio,
                session.upload.session, session.upload.audio, session.upload.head,
            ],
            [
                claim.entry_id, claim.consumer, claim.deliveries, keys.member, reason, QUARANTINED_MAX, claim.queue,
                encode(fact), self._ttl_s,
            ],
        )  # fmt: skip
        return Code(code)

    async def sweep(self, partition: PartitionKeys, cursor: str = "0", *, count: int = 100) -> Swept:
        """Look at some unfinished runs and offer again those without an entry; go on from the cursor until it is 0."""
        queue = partition.queue(self.queue)
        next_cursor, members, offered = await self.server.run(
            script("sweep_entries"), [queue.sessions, queue.entries, queue.bell], [cursor, count]
        )
        return Swept(next_cursor.decode(), [member.decode() for member in members], offered)

    async def retire(self) -> None:
        """Delete this consumer wherever it holds nothing."""
        await self._each_partition("retire_consumers", [self.consumer, 0])

    async def retire_silent(self, silence_ms: int) -> int:
        """Delete every consumer that holds nothing and wasn't heard of for `silence_ms`; answers how many."""
        answers = await self._each_partition("retire_consumers", ["", silence_ms])
        return sum(answer for answer in answers if not isinstance(answer, LogUnavailableError))

    async def _each_partition(self, name: str, arguments: Sequence[str | int]) -> list[Any]:
        partitions = self.server.keys.partitions
        return await self._run_all(
            partitions,
            [Call(script(name), [keys.queue(self.queue).sessions], arguments) for keys in partitions],
        )

    async def _run_all(self, partitions: Sequence[PartitionKeys], calls: Sequence[Call]) -> list[Any]:
        """Every call's answer, or the `LogUnavailableError` of one whose partition's node is away.

        Raises:
            LogUnavailableError: if no answer came at all.
        """
        answers = await self.server.run_many(calls)
        self._note(partitions, answers)
        return answers

    def _note(self, partitions: Iterable[PartitionKeys], answers: Iterable[Any]) -> None:
        found = zip(partitions, answers, strict=True)
        self.calm(keys for keys, answer in found if isinstance(answer, LogUnavailableError))

    async def _find_abandoned(self) -> list[tuple[PartitionKeys, int]]:
        """The partitions with claims that are idle for a lease, each with its own server's clock (ms)."""
        answers = await self._each_partition("find_abandoned", [self.lease_ms])
        now = time.monotonic()
        looked = [
            (keys, int(answer[0]), answer[1])
            for keys, answer in zip(self.server.keys.partitions, answers, strict=True)
            if not isinstance(answer, LogUnavailableError) and now >= self._calm_from.get(keys.number, 0.0)
        ]
        left_ms = [self.lease_ms - idle_ms for _, _, idle_ms in looked if 0 < idle_ms < self.lease_ms]
        self.due_ms = min(left_ms, default=self.lease_ms // 2)
        return [(keys, now_ms) for keys, now_ms, idle_ms in looked if idle_ms >= self.lease_ms]

    async def _read_new(self, partitions: Sequence[PartitionKeys], count: int) -> list[Any]:
        """Each partition's answer to a read of up to `count` new entries."""
        answers = await self.server.execute_many(
            [
                ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, "STREAMS", queue.sessions, ">")
                for queue in (keys.queue(self.queue) for keys in partitions)
            ]
        )
        self._note(partitions, answers)
        if any(isinstance(answer, ResponseError) and _is_missing_group(answer) for answer in answers):
            # Somebody emptied Redis under us, or a failover lost the group: what comes next needs it again.
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

    def _beginning(self, claim: Claim) -> Call:
        keys, offers = claim.keys, claim.offers
        return Call(
            script("begin_claim"),
            [offers.sessions, offers.entries, keys.checkpoint, keys.session.session, keys.transcript],
            [claim.entry_id, claim.consumer, claim.deliveries, keys.member, self._ttl_s],
        )

    def _claim(self, entry_id: bytes, member: bytes, deliveries: int) -> Claim:
        return Claim(self.server.keys.of_run(member.decode()), entry_id.decode(), self.consumer, deliveries, self.queue)


def _is_missing_group(error: ResponseError) -> bool:
    return str(error).startswith("NOGROUP")


def _renewal(claims: Sequence[Claim]) -> Call:
    arguments: list[str | int] = []
    for claim in claims:
        arguments += (claim.entry_id, claim.consumer, claim.deliveries)
    return Call(script("renew_claims"), [claim.offers.sessions for claim in claims], arguments)


def _start(data: bytes) -> SessionStarted | None:
    try:
        return decode_start(data)
    except UndecodableEventError:  # one such session mustn't keep the others of the same call from beginning
        return None


def _total(second_fact: bytes) -> int:
    """How long the recording is: the second fact of a recording's run; any other run has another there, or none."""
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
        serial=int(stored.get(b"serial", 0)),
        suspicion=int(stored.get(b"suspicion", 0)),
        done=b"done" in stored,
    )
