"""Measures recovery: which worker holds each session, when it commits, and how long a fault delayed that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import redis

from eventlog.codec import decode_fact
from eventlog.events import HoleNoted, ProgressNoted, SessionEnded, UtteranceFinal
from eventlog.keys import Keys
from eventlog.positions import START, Position
from eventlog.work.claims import GROUP
from tests.chaos.client import Client
from tests.chaos.redis_process import RedisProcess
from tests.chaos.role_processes import now_s
from tests.support.waiting import lasting

POLL_S = 0.03
"""The error of a measurement; polling at this period is no load to speak of."""

MAX_CLAIMS = 200


class Recovery(NamedTuple):
    """How long a fault delayed one session."""

    kind: str
    """The fault's kind."""
    session_id: str
    waited_s: float
    of_claim: bool
    """Its worker was hit, and this is the time to its next commit; otherwise to the next ack."""
    at_s: float
    """When it recovered."""


class _Takeover(NamedTuple):
    kind: str
    since_s: float
    victims: frozenset[int]
    """Process ids that held the session when the fault was injected."""
    taken_s: float | None
    """When another process held it."""


class RecoveryMonitor:
    """Polls Redis for holders and commits."""

    def __init__(self, redis_process: RedisProcess, keys: Keys, has_worker: Callable[[], bool]) -> None:
        """Start without knowledge; `has_worker` says whether any worker could take a session."""
        self.holders: dict[str, int] = {}
        """By session id, the process id that holds its claim."""
        self.unclaimed: set[str] = set()
        """Sessions without a holder."""
        self.recoveries: list[Recovery] = []
        self._redis_process = redis_process
        self._keys = keys
        self._has_worker = has_worker
        self._last: dict[str, Position] = {}
        self._claims: dict[str, _Takeover] = {}
        self._acks: dict[str, tuple[str, float]] = {}

    def begin_takeover(self, kind: str, pid: int) -> None:
        """Measure from now, when a fault hit a worker, to the next commit of each of its sessions."""
        for session_id, holder in self.holders.items():
            if holder == pid:
                self._claims[session_id] = _Takeover(kind, now_s(), frozenset({pid}), None)

    def await_acks(self, kind: str, clients: Iterable[Client]) -> None:
        """Measure from now, when a fault ended, to the next ack of each of these clients."""
        for client in clients:
            if client.session_id and client.acked < client.length:
                self._acks[client.session_id] = (kind, now_s())

    def restart_timers(self) -> None:
        """Measure all sessions from now: a fault that stopped all commits has just ended."""
        for session_id, takeover in self._claims.items():
            self._claims[session_id] = takeover._replace(since_s=now_s(), taken_s=None)
        for session_id, (kind, _) in self._acks.items():
            self._acks[session_id] = (kind, now_s())

    async def run(self, clients: Callable[[], Iterable[Client]]) -> None:
        """Poll until cancelled."""
        while True:
            try:
                await self._poll({client.session_id: client for client in clients() if client.session_id})
            except (redis.RedisError, OSError):
                await lasting(POLL_S)
            await lasting(POLL_S)

    async def _poll(self, clients: dict[str, Client]) -> None:
        if not self._has_worker():
            for session_id, takeover in self._claims.items():  # both workers down: no worker could take over
                self._claims[session_id] = takeover._replace(since_s=now_s(), taken_s=None)
        await self._poll_holders(clients)
        pipe = self._redis_process.client.pipeline(transaction=False)
        for session_id in clients:
            pipe.xrevrange(self._keys.of(session_id).run().transcript, count=1)
        for (session_id, client), answer in zip(clients.items(), await pipe.execute(), strict=True):
            if answer:
                self._note_fact(session_id, client, Position.parse(answer[0][0]), next(iter(answer[0][1].values())))
        for session_id, (kind, since_s) in list(self._acks.items()):
            acked = clients.get(session_id)
            first_s = next((ack.at_s for ack in acked.acks if ack.at_s > since_s), None) if acked else None
            if first_s is not None:
                self.recoveries.append(Recovery(kind, session_id, first_s - since_s, of_claim=False, at_s=first_s))
            if acked is None or acked.end is not None or first_s is not None:
                del self._acks[session_id]

    async def _poll_holders(self, clients: dict[str, Client]) -> None:
        pipe = self._redis_process.client.pipeline(transaction=False)
        for partition in self._keys.partitions:
            pipe.hgetall(partition.entries)
            pipe.xpending_range(partition.sessions, GROUP, "-", "+", MAX_CLAIMS)
        answers = await pipe.execute(raise_on_error=False)
        now, holders, unclaimed = now_s(), dict[str, int](), set[str]()
        for entries, pending in zip(answers[::2], answers[1::2], strict=True):
            if isinstance(entries, Exception) or isinstance(pending, Exception):
                continue  # no group yet
            by_entry = {one["message_id"]: int(one["consumer"].rsplit(b"-", 2)[1]) for one in pending}
            for member, entry_id in entries.items():
                session_id = member.decode().partition(" ")[0]
                if entry_id in by_entry:
                    holders[session_id] = by_entry[entry_id]
                else:
                    unclaimed.add(session_id)
        self.holders, self.unclaimed = holders, unclaimed
        for session_id, takeover in list(self._claims.items()):
            holder = holders.get(session_id)
            if session_id not in clients or (holder is None and session_id not in unclaimed):
                del self._claims[session_id]
            elif takeover.taken_s is None and holder is not None and holder not in takeover.victims:
                self._claims[session_id] = takeover._replace(taken_s=now)

    def _note_fact(self, session_id: str, client: Client, at: Position, data: bytes) -> None:
        if at <= self._last.get(session_id, START):
            self._last[session_id] = at  # power loss may have taken its last facts
            return
        self._last[session_id] = at
        takeover = self._claims.pop(session_id, None)
        if takeover is None:
            return
        now = now_s()
        due_s = _due_s(client, data)
        # Time in which nothing is due doesn't count: a session in mid-sentence commits when the sentence ends.
        not_due_s = max(0.0, due_s - max(takeover.since_s, takeover.taken_s or now))
        waited_s = max(0.0, now - takeover.since_s - not_due_s)
        self.recoveries.append(Recovery(takeover.kind, session_id, waited_s, of_claim=True, at_s=now))


def _due_s(client: Client, data: bytes) -> float:
    """When all audio that a fact needs was in the log, by its client's acks."""
    fact = decode_fact(data)
    if isinstance(fact, SessionEnded):
        return client.stopped_s or client.started_s
    match fact:
        case UtteranceFinal():
            needed = fact.decided_samples
        case HoleNoted():
            needed = fact.end_samples
        case ProgressNoted():
            needed = fact.processed_samples
        case _:
            return client.started_s
    return next((ack.at_s for ack in client.acks if ack.offset >= needed), now_s())
