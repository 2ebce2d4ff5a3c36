"""Who holds which session and when each commits, as Redis tells it; and how long a fault kept either from going on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import redis

from eventlog.codec import decode_fact
from eventlog.events import HoleNoted, ProgressNoted, SessionEnded, UtteranceFinal
from eventlog.keys import Keys
from eventlog.positions import START, Position
from eventlog.work.claims import GROUP
from tests.chaos.speaker import Speaker
from tests.chaos.stack import now_s
from tests.chaos.store import Store
from tests.support.waiting import lasting

LOOK_S = 0.03
"""What a measurement may be off by, and still a load that nobody notices."""

MOST_CLAIMS = 200


class Recovery(NamedTuple):
    """How long a session had to wait."""

    kind: str
    """Of the fault."""
    session_id: str
    waited_s: float
    of_claim: bool
    """Its worker was taken, and this is until its next commit; else until the next ack."""
    at_s: float
    """When that was."""


class _Waiting(NamedTuple):
    kind: str
    since_s: float
    victims: frozenset[int]
    """Processes that had the session when it was struck, by number."""
    taken_s: float | None
    """When somebody else had it."""


class Watch:
    """Looks at Redis all the time."""

    def __init__(self, store: Store, keys: Keys, attended: Callable[[], bool]) -> None:
        """Nothing is known yet; `attended` says whether there is any worker that could take a session."""
        self.holders: dict[str, int] = {}
        """By session, the process that has its claim."""
        self.unheld: set[str] = set()
        """Sessions that nobody has."""
        self.recoveries: list[Recovery] = []
        self._store = store
        self._keys = keys
        self._attended = attended
        self._last: dict[str, Position] = {}
        self._claims: dict[str, _Waiting] = {}
        self._acks: dict[str, tuple[str, float]] = {}

    def strike_worker(self, kind: str, pid: int) -> None:
        """A worker was taken now: its sessions wait for their next commit."""
        for session_id, holder in self.holders.items():
            if holder == pid:
                self._claims[session_id] = _Waiting(kind, now_s(), frozenset({pid}), None)

    def strike_acks(self, kind: str, speakers: Iterable[Speaker]) -> None:
        """Something that kept these from being acked ends now."""
        for speaker in speakers:
            if speaker.session_id and speaker.acked < speaker.length:
                self._acks[speaker.session_id] = (kind, now_s())

    def disturb(self) -> None:
        """Something that keeps everybody from committing ends now: who waits waits from here on."""
        for session_id, waiting in self._claims.items():
            self._claims[session_id] = waiting._replace(since_s=now_s(), taken_s=None)
        for session_id, (kind, _) in self._acks.items():
            self._acks[session_id] = (kind, now_s())

    async def run(self, speakers: Callable[[], Iterable[Speaker]]) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look({speaker.session_id: speaker for speaker in speakers() if speaker.session_id})
            except (redis.RedisError, OSError):
                await lasting(LOOK_S)
            await lasting(LOOK_S)

    async def _look(self, speakers: dict[str, Speaker]) -> None:
        if not self._attended():
            for session_id, waiting in self._claims.items():  # both workers struck at once: nobody could take anything
                self._claims[session_id] = waiting._replace(since_s=now_s(), taken_s=None)
        await self._look_at_holders(speakers)
        pipe = self._store.client.pipeline(transaction=False)
        for session_id in speakers:
            pipe.xrevrange(self._keys.of(session_id).run().transcript, count=1)
        for (session_id, speaker), answer in zip(speakers.items(), await pipe.execute(), strict=True):
            if answer:
                self._see_fact(session_id, speaker, Position.parse(answer[0][0]), next(iter(answer[0][1].values())))
        for session_id, (kind, since_s) in list(self._acks.items()):
            acked = speakers.get(session_id)
            first_s = next((ack.at_s for ack in acked.acks if ack.at_s > since_s), None) if acked else None
            if first_s is not None:
                self.recoveries.append(Recovery(kind, session_id, first_s - since_s, of_claim=False, at_s=first_s))
            if acked is None or acked.end is not None or first_s is not None:
                del self._acks[session_id]

    async def _look_at_holders(self, speakers: dict[str, Speaker]) -> None:
        pipe = self._store.client.pipeline(transaction=False)
        for partition in self._keys.partitions:
            pipe.hgetall(partition.entries)
            pipe.xpending_range(partition.sessions, GROUP, "-", "+", MOST_CLAIMS)
        answers = await pipe.execute(raise_on_error=False)
        now, holders, unheld = now_s(), dict[str, int](), set[str]()
        for entries, pending in zip(answers[::2], answers[1::2], strict=True):
            if isinstance(entries, Exception) or isinstance(pending, Exception):
                continue  # no group yet
            by_entry = {one["message_id"]: int(one["consumer"].rsplit(b"-", 2)[1]) for one in pending}
            for member, entry_id in entries.items():
                session_id = member.decode().partition(" ")[0]
                if entry_id in by_entry:
                    holders[session_id] = by_entry[entry_id]
                else:
                    unheld.add(session_id)
        self.holders, self.unheld = holders, unheld
        for session_id, waiting in list(self._claims.items()):
            holder = holders.get(session_id)
            if session_id not in speakers or (holder is None and session_id not in unheld):
                del self._claims[session_id]
            elif waiting.taken_s is None and holder is not None and holder not in waiting.victims:
                self._claims[session_id] = waiting._replace(taken_s=now)

    def _see_fact(self, session_id: str, speaker: Speaker, at: Position, data: bytes) -> None:
        if at <= self._last.get(session_id, START):
            self._last[session_id] = at  # it may have gone back
            return
        self._last[session_id] = at
        waiting = self._claims.pop(session_id, None)
        if waiting is None:
            return
        now = now_s()
        due_s = _due_s(speaker, data)
        # Nobody waits while nothing is due: a session in the middle of a sentence commits when that is over.
        idle_timeout_s = max(0.0, due_s - max(waiting.since_s, waiting.taken_s or now))
        waited_s = max(0.0, now - waiting.since_s - idle_timeout_s)
        self.recoveries.append(Recovery(waiting.kind, session_id, waited_s, of_claim=True, at_s=now))


def _due_s(speaker: Speaker, data: bytes) -> float:
    """When all that a fact needs was in the log, as far as its client was told."""
    fact = decode_fact(data)
    if isinstance(fact, SessionEnded):
        return speaker.stopped_s or speaker.begun_s
    match fact:
        case UtteranceFinal():
            needed = fact.decided_samples
        case HoleNoted():
            needed = fact.end_samples
        case ProgressNoted():
            needed = fact.processed_samples
        case _:
            return speaker.begun_s
    return next((ack.at_s for ack in speaker.acks if ack.offset >= needed), now_s())
