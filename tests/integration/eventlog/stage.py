"""Steps that the log's tests share: sessions, chunks, claims and commits by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eventlog.codec import encode
from eventlog.events import AudioEvent, Fact, SessionEnded, SessionStarted, UtteranceFinal
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, AudioEntry, Checkpoint, Claim, Code, Commit, Committed, Opened
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Argument, Server
from eventlog.work.claims import GROUP, Claims

# Few, so that a look at all of them is quick, and enough for each node of a cluster to have some.
PARTITIONS = 8
RATE_HZ = 16_000
TTL_S = 600
# Nothing waits for it: tests make claims look older than this.
LEASE_MS = 5_000
TOKEN = "hash of the resume token"


def pcm(samples: int, value: int = 1) -> bytes:
    """Mono PCM of one value."""
    return value.to_bytes(2, "little") * samples


def started(session_id: str) -> SessionStarted:
    """The event that opens a session."""
    return SessionStarted(session_id=session_id, sample_rate_hz=RATE_HZ, tenant_id="t1", started_ms=1_700_000_000_000)


def chunk(keys: SessionKeys, after: Position, samples: int = 1600, *, epoch: int = 1, value: int = 1) -> Append:
    """A chunk to be appended after `after`."""
    return Append(keys, epoch, after, after.advanced(samples), pcm(samples, value), is_audio=True)


def control(keys: SessionKeys, after: Position, event: AudioEvent, *, at: Position | None = None) -> Append:
    """A control event of the first connection, right after `after` unless said otherwise."""
    return Append(keys, 1, after, at or after.control(), encode(event), is_audio=False)


def final(utterance: int, text: str = "yes") -> tuple[Position, Fact]:
    """The fact of an utterance, with its place."""
    fact = UtteranceFinal(
        utterance=utterance, channel=0, start_samples=0, end_samples=800, decided_samples=1600, sample_rate_hz=RATE_HZ,
        text=text, confidence=0.9, speaker="1",
    )  # fmt: skip
    return Position(utterance + 1, 0), fact


def ended(utterances: int) -> tuple[Position, Fact]:
    """The last fact of a run, with its place."""
    return SEALED, SessionEnded(reason="stop", audio_samples=1600, utterances=utterances, sample_rate_hz=RATE_HZ)


def commit(claim: Claim, serial: int, *facts: tuple[Position, Fact], ends: bool = False, **others: Any) -> Commit:  # noqa: ANN401 - a commit's own fields
    """The commit that makes `serial` the number of commits."""
    checkpoint = Checkpoint(cursor=OPENED, boundaries=(0,), utterance=len(facts), serial=serial)
    return Commit(claim, checkpoint, facts, ends=ends, **others)


def token(claim: Claim) -> tuple[str, str, str, int]:
    """The token of a claim."""
    return claim.keys.member, claim.entry_id, claim.consumer, claim.deliveries


@dataclass
class Stage:
    """A log on a real server, and the steps of tests on it."""

    server: Server
    log: RedisLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = RedisLog(self.server, session_ttl_s=TTL_S)

    def keys(self, session_id: str = "s1") -> SessionKeys:
        """A session's keys."""
        return self.server.keys.of(session_id)

    async def opened(self, session_id: str = "s1") -> SessionKeys:
        """Opens a session."""
        keys = self.keys(session_id)
        answer = await self.log.open(keys, started(session_id), TOKEN)
        assert answer == Opened(Code.OK, 1, OPENED, started(session_id))
        return keys

    async def spoken(self, session_id: str = "s1", chunks: int = 1) -> tuple[SessionKeys, Position]:
        """Opens a session and appends chunks of 100 ms; answers its keys and head."""
        keys, head = await self.opened(session_id), OPENED
        appends = []
        for _ in range(chunks):
            appends.append(chunk(keys, head))
            head = appends[-1].position
        assert set(await self.log.append(appends)) == {Appended(Code.OK)}
        return keys, head

    async def append(self, chunk: Append) -> Appended:
        """Appends one entry."""
        [answer] = await self.log.append([chunk])
        return answer

    async def entries(self, keys: SessionKeys, after: Position = START) -> list[AudioEntry]:
        """The session's audio entries after a position."""
        found = await self.log.read({keys: after}, max_bytes_each=1 << 24)
        return found.get(keys, [])

    async def texts(self, keys: SessionKeys) -> list[str]:
        """The texts of the live run's finals."""
        facts = [json.loads(fact) for _, fact in await self.log.facts(keys.run(), START)]
        return [fact["text"] for fact in facts if "text" in fact]

    async def commit(self, commit: Commit) -> Committed:
        """Makes one commit."""
        [answer] = await self.log.commit([commit])
        return answer

    async def worker(self, consumer: str) -> Claims:
        """A worker's claims."""
        claims = Claims(self.server, consumer, lease_ms=LEASE_MS, session_ttl_s=TTL_S)
        await claims.ensure_groups()
        return claims

    async def claimed(self, worker: Claims) -> Claim:
        """The one unclaimed run."""
        [claim] = await worker.take_new(self.server.keys.partitions, 100)
        return claim

    async def age(self, claim: Claim, idle_ms: int = LEASE_MS) -> None:
        """Makes a claim look as if it hadn't been renewed for `idle_ms`, its token unchanged."""
        await self.do(
            "XCLAIM", claim.keys.partition.sessions, GROUP, claim.consumer, 0, claim.entry_id, "IDLE", idle_ms, "JUSTID"
        )

    async def do(self, *command: Argument) -> Any:  # noqa: ANN401 - Redis's answer
        """One raw command."""
        return await self.server.execute(*command)

    async def snapshot(self, keys: SessionKeys, *more: str) -> dict[str, bytes | None]:
        """Every key of a session and of its partition's claims, to be compared."""
        partition, run = keys.partition, keys.run()
        names = [
            keys.session, keys.audio, run.transcript, run.checkpoint, partition.sessions, partition.entries,
            partition.index, partition.changes, partition.quarantined, *more,
        ]  # fmt: skip
        return dict(zip(names, await self.server.execute_many([("DUMP", name) for name in names]), strict=True))

    async def restore(self, state: dict[str, bytes | None], names: Sequence[str]) -> None:
        """Puts keys back to an earlier state, as a failover does that lost what came after it."""
        for name in names:
            await self.do("RESTORE", name, 0, state[name] or b"", "REPLACE")
