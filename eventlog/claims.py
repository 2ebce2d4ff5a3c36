"""Claims: which worker processes which run, held as pending entries and fenced by their token.

A run's entry on its partition's ``sessions`` stream is delivered to one consumer of the group ``processor``; while it
is pending it is that worker's claim. Everything a claim allows is checked inside Redis against its token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from eventlog.codec import UndecodableEventError, decode_start
from eventlog.events import SessionStarted
from eventlog.keys import PartitionKeys
from eventlog.log import Checkpoint, Claim, Code, LogUnavailableError
from eventlog.positions import Position
from eventlog.scripts import script
from eventlog.server import Call, Server

GROUP = "processor"
"""The consumer group of every ``sessions`` stream; the Lua side names it too."""

SET_ASIDE_MAX = 1000
"""Per partition: enough to see a pattern, few enough to list."""

_boundaries = msgspec.json.Decoder(tuple[int, ...])


class Begun(NamedTuple):
    """Where a claimed run stands."""

    code: Code
    start: SessionStarted | None = None
    checkpoint: Checkpoint = Checkpoint()
    last_fact: Position = Position(0, 0)


class Swept(NamedTuple):
    """One step of the sweep over unfinished runs."""

    cursor: str
    members: list[str]
    offered: int


class Claims:
    """One worker's dealings with claims, under one consumer name; every method may raise `LogUnavailableError`."""

    def __init__(self, server: Server, consumer: str, *, lease_ms: int, session_ttl_s: int) -> None:
        """Act as `consumer`; a claim not renewed for `lease_ms` may be taken over."""
        self.server = server
        self.consumer = consumer
        self.lease_ms = lease_ms
        self._ttl_s = session_ttl_s

    async def ensure_groups(self) -> None:
        """Create the group on every partition, from the first entry on; harmless where it exists."""
        await self._each_partition("ensure_group", [])

    async def take_new(self, partitions: Iterable[PartitionKeys], room: int) -> list[Claim]:
        """Claim up to about `room` entries that nobody had yet; each partition may give its share at most.

        A lost answer leaves entries pending under this consumer; `take_over` brings them back after a lease.
        """
        wanted = list(partitions)
        claims: list[Claim] = []
        # Few partitions at a time, so that a worker with little room doesn't take much more than that.
        for first in range(0, len(wanted), _PARTITIONS_PER_TAKE):
            left = room - len(claims)
            if left <= 0:
                break
            part = wanted[first : first + _PARTITIONS_PER_TAKE]
            share = max(1, left // len(part))
            answers = await self.server.execute_many(
                [
                    ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", share, "STREAMS", keys.sessions, ">")
                    for keys in part
                ]
            )
            if any(isinstance(answer, ResponseError) and _is_missing_group(answer) for answer in answers):
                # Somebody emptied Redis under us, or a failover lost the group: what comes next needs it again.
                await self.ensure_groups()
                answers = [answer for answer in answers if not isinstance(answer, ResponseError)]
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                for _, entries in answer or ():
                    claims += [self._claim(entry_id, fields[1], 1) for entry_id, fields in entries]
        return claims

    async def take_over(self, room: int) -> list[Claim]:
        """Claim up to about `room` runs whose holders haven't renewed them for a lease, the own forgotten ones too.

        Own entries come with the token they have: a caller that runs them skips them.
        """
        share = max(1, room // len(self.server.keys.partitions))
        answers = await self._each_partition("take_over_claims", [self.consumer, self.lease_ms, share])
        return [
            self._claim(entry_id, member, deliveries) for answer in answers for entry_id, member, deliveries in answer
        ]

    async def begin(self, claims: Sequence[Claim]) -> list[Begun]:
        """Where each run stands; a takeover counts as a suspicion, once. GONE and SEALED: nothing is left to do.

        OK without a start: what the session began with is no event that this build knows, so it can't be processed.
        """
        answers = await self.server.run_many([self._beginning(claim) for claim in claims])
        begun = []
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                raise answer
            code, start, fields, last_fact = answer
            if code == Code.OK:
                begun.append(Begun(Code.OK, _start(start), _checkpoint(fields), Position.parse(last_fact)))
            else:
                begun.append(Begun(Code(code)))
        return begun

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Reset each claim's idle time; answers those that are lost."""
        lost: list[Claim] = []
        groups = self.server.groups(claims, lambda claim: claim.keys.partition.number)
        answers = await self.server.run_many([_renewal(group) for group in groups])
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, LogUnavailableError):
                raise answer
            lost += [group[number - 1] for number in answer]
        return lost

    async def hand_over(self, claims: Sequence[Claim]) -> None:
        """Offer each run afresh: whoever has room takes it at once, and nobody is suspected. Lost ones are left."""
        answers = await self.server.run_many(
            [
                Call(
                    script("hand_over_claim"),
                    [claim.keys.partition.sessions, claim.keys.partition.entries, claim.keys.partition.sessions_bell],
                    [claim.entry_id, claim.consumer, claim.deliveries, claim.keys.member],
                )
                for claim in claims
            ]
        )
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                raise answer

    async def set_aside(self, claim: Claim, reason: str) -> Code:
        """Stop offering a run that keeps killing workers; its audio and facts stay."""
        partition = claim.keys.partition
        code = await self.server.run(
            script("set_aside_claim"),
            [partition.sessions, partition.entries, partition.set_aside],
            [claim.entry_id, claim.consumer, claim.deliveries, claim.keys.member, reason, SET_ASIDE_MAX],
        )
        return Code(code)

    async def sweep(self, partition: PartitionKeys, cursor: str = "0", *, count: int = 100) -> Swept:
        """Look at some unfinished runs and offer again those without an entry; go on from the cursor until it is 0."""
        next_cursor, members, offered = await self.server.run(
            script("sweep_entries"), [partition.sessions, partition.entries, partition.sessions_bell], [cursor, count]
        )
        return Swept(next_cursor.decode(), [member.decode() for member in members], offered)

    async def retire(self) -> None:
        """Delete this consumer wherever it holds nothing."""
        await self._each_partition("retire_consumers", [self.consumer, 0])

    async def retire_silent(self, silence_ms: int) -> int:
        """Delete every consumer that holds nothing and wasn't heard of for `silence_ms`; answers how many."""
        return sum(await self._each_partition("retire_consumers", ["", silence_ms]))

    async def _each_partition(self, name: str, arguments: Sequence[str | int]) -> list[Any]:
        answers = await self.server.run_many(
            [Call(script(name), [keys.sessions], arguments) for keys in self.server.keys.partitions]
        )
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                raise answer
        return answers

    def _beginning(self, claim: Claim) -> Call:
        keys, partition = claim.keys, claim.keys.partition
        return Call(
            script("begin_claim"),
            [partition.sessions, partition.entries, keys.checkpoint, keys.session.session, keys.transcript],
            [claim.entry_id, claim.consumer, claim.deliveries, keys.member, self._ttl_s],
        )

    def _claim(self, entry_id: bytes, member: bytes, deliveries: int) -> Claim:
        return Claim(self.server.keys.of_run(member.decode()), entry_id.decode(), self.consumer, deliveries)


_PARTITIONS_PER_TAKE = 16


def _is_missing_group(error: ResponseError) -> bool:
    return str(error).startswith("NOGROUP")


def _renewal(claims: Sequence[Claim]) -> Call:
    arguments: list[str | int] = []
    for claim in claims:
        arguments += (claim.entry_id, claim.consumer, claim.deliveries)
    return Call(script("renew_claims"), [claim.keys.partition.sessions for claim in claims], arguments)


def _start(data: bytes) -> SessionStarted | None:
    try:
        return decode_start(data)
    except UndecodableEventError:  # one such session mustn't keep the others of the same call from beginning
        return None


def _checkpoint(fields: Sequence[bytes]) -> Checkpoint:
    stored = dict(zip(fields[::2], fields[1::2], strict=True))
    return Checkpoint(
        cursor=Position.parse(stored.get(b"cursor", b"0-0")),
        boundaries=_boundaries.decode(stored.get(b"boundaries", b"[]")),
        utterance=int(stored.get(b"utterance", 0)),
        serial=int(stored.get(b"serial", 0)),
        suspicion=int(stored.get(b"suspicion", 0)),
        done=b"done" in stored,
    )
