"""The same calls to a real Redis and to the model, whose replies and stored data are compared."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from eventlog.events import SessionSealed
from eventlog.keys import Keys, SessionKeys
from eventlog.log import Append, Claim, Code
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.projection.operations import add, publish, push, put, put_fields, rank, unrank, unrank_below
from eventlog.projection.projection_log import Apply, ProjectionLog, trim_changes
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Argument, Server
from eventlog.work.claims import GROUP, Claims
from eventlog.work.replays import Replays
from tests.integration.eventlog.stage import TTL_S, chunk, commit, control, ended, final, started
from tests.simulation.redis_model import CommandError, RedisModel

LEASE_MS = 500_000
"""No test takes as long, so a longer idle time was set on purpose."""

AGED_MS = 1_000_000
SESSIONS = ("s0", "s1")
WORKERS = ("a", "b")
TOKENS = ("right", "wrong")
CLOCKED = re.compile(r"\b\d{13}(-\d+)?\b")
Operation = tuple[str, tuple[int, ...], dict[str, bool]]


class ModelServer(Server):
    """The product's own `Server` over a model that answers at once."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(cast("Redis", None), keys, "modelled:")
        self.model = RedisModel(lambda: time.time_ns() // 1_000_000)

    async def _pipelined(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        return [self._one(command) for command in commands]

    def _one(self, command: tuple[Argument, ...]) -> Any:  # noqa: ANN401 - as Redis
        if command[0] == "KEYS":
            return [key.encode() for key in self.model.store.names()]
        try:
            return self.model.execute(command)
        except CommandError as error:
            return NoScriptError(str(error)) if str(error).startswith("NOSCRIPT") else ResponseError(str(error))


class Backend:
    """One of the two, with its log, workers and projections."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.log = RedisLog(server, session_ttl_s=TTL_S)
        self.replays = Replays(server, session_ttl_s=TTL_S)
        self.workers = [Claims(server, name, lease_ms=LEASE_MS, session_ttl_s=TTL_S) for name in WORKERS]
        self.projections = [ProjectionLog(server, "lists", name, session_ttl_s=TTL_S) for name in WORKERS]
        self.claims: list[Claim] = []
        self.heads: dict[str, Position] = {}
        self.serials: dict[str, int] = {}
        self.notices: list[bytes] = []
        self._ordinals: dict[str, int] = {}

    async def do(self, operation: Operation) -> Any:  # noqa: ANN401 - any reply
        """One operation's reply without values of the clock."""
        name, numbers, flags = operation
        act: Callable[..., Awaitable[Any]] = getattr(self, f"do_{name}")
        self._ordinals.clear()
        try:
            return self.normal(await act(*numbers, **flags))
        except RedisError as error:
            return type(error).__name__

    def normal(self, value: Any) -> Any:  # noqa: ANN401 - any answer
        """A value whose ids of the clock are replaced by their order of appearance."""
        match value:
            case bytes() | str():
                text = value.decode(errors="replace") if isinstance(value, bytes) else value
                return CLOCKED.sub(lambda match: self._ordinal(match[0]), text)
            case dict():
                return sorted((self.normal(key), self.normal(one)) for key, one in value.items())
            case int() if value > 10**12:
                return "now"
            case Claim():
                return [value.keys.member, self.normal(value.entry_id), value.consumer, value.deliveries, value.queue]
            case list() | tuple() | set():
                return [self.normal(one) for one in value]
        return value

    def _ordinal(self, text: str) -> str:
        if "-" not in text:
            return "now"
        return f"@{self._ordinals.setdefault(text, len(self._ordinals))}"

    def _session(self, number: int) -> SessionKeys:
        return self.server.keys.of(SESSIONS[number])

    def _claim(self, number: int) -> Claim | None:
        return self.claims[number % len(self.claims)] if self.claims else None

    def _know(self, claims: Sequence[Claim]) -> list[Claim]:
        self.claims += claims
        return list(claims)

    async def do_open(self, session: int) -> Any:  # noqa: ANN401 - as all of these
        """Open a session."""
        answer = await self.log.open(self._session(session), started(SESSIONS[session]), TOKENS[0])
        return answer[:3]

    async def do_resume(self, session: int, token: int) -> Any:  # noqa: ANN401
        """Resume it, perhaps with a wrong token."""
        answer = await self.log.resume(self._session(session), TOKENS[token])
        return answer[:3]

    async def do_append(self, session: int, epoch: int, behind: int, *, seals: bool) -> Any:  # noqa: ANN401
        """Append two entries from about where the head is."""
        keys = self._session(session)
        head = self.heads.get(keys.session_id, OPENED)
        believed = Position(max(0, head.offset - 1600 * behind), head.sequence)
        second: Append = chunk(keys, believed.advanced(1600), epoch=epoch)
        if seals:
            sealed = SessionSealed(reason="stop", offset_samples=believed.offset)
            second = control(keys, believed.advanced(1600), sealed, at=SEALED)
        answers = await self.log.append([chunk(keys, believed, epoch=epoch), second])
        if answers[-1].code == Code.OK:
            self.heads[keys.session_id] = second.position
        return answers

    async def do_seal(self, session: int, *, idle: bool) -> Any:  # noqa: ANN401
        """End a session from outside, perhaps one that isn't idle."""
        return await self.log.seal(self._session(session), "idle", idle_ms=LEASE_MS if idle else 0)

    async def do_forget(self, session: int) -> Any:  # noqa: ANN401
        """Delete a session's audio."""
        return await self.server.execute("DEL", self._session(session).audio)

    async def do_groups(self, worker: int) -> None:
        """Make the groups."""
        await self.workers[worker].ensure_groups()

    async def do_take_new(self, worker: int, room: int) -> Any:  # noqa: ANN401
        """Take new claims."""
        return self._know(await self.workers[worker].take_new(self.server.keys.partitions, room))

    async def do_take_over(self, worker: int, room: int) -> Any:  # noqa: ANN401
        """Take over abandoned claims."""
        return self._know(await self.workers[worker].take_over(room))

    async def do_age(self, number: int) -> Any:  # noqa: ANN401
        """Make a claim look abandoned, or let an entry be lost that is pending."""
        if (claim := self._claim(number)) is None:
            return None
        stream = claim.queue_keys.sessions
        return await self.server.execute(
            "XCLAIM", stream, GROUP, claim.consumer, 0, claim.entry_id, "IDLE", AGED_MS, "JUSTID"
        )

    async def do_lose_entry(self, number: int) -> Any:  # noqa: ANN401
        """Delete an entry by hand."""
        claim = self._claim(number)
        return claim and await self.server.execute("XDEL", claim.queue_keys.sessions, claim.entry_id)

    async def do_begin(self, worker: int) -> Any:  # noqa: ANN401
        """Begin every claim ever had."""
        if not self.claims:
            return None
        loaded = await self.workers[worker].load(self.claims)
        return [(one.code, repr(one.checkpoint), one.last_fact, one.source) for one in loaded]

    async def do_renew(self, worker: int) -> Any:  # noqa: ANN401
        """Renew every claim ever had."""
        return await self.workers[worker].renew(self.claims) if self.claims else None

    async def do_hand_over(self, number: int, *, absolved: bool) -> None:
        """Hand a claim over."""
        if claim := self._claim(number):
            await self.workers[0].hand_over([claim], clears_suspicion=absolved)

    async def do_quarantine(self, number: int) -> Any:  # noqa: ANN401
        """Quarantine a run."""
        claim = self._claim(number)
        return claim and await self.workers[0].quarantine(claim, "why")

    async def do_sweep(self) -> Any:  # noqa: ANN401
        """Look for lost entries."""
        return list(await self.workers[0].reoffer_missing(self.server.keys.partitions[0]))

    async def do_retire(self, worker: int, *, silent: bool) -> Any:  # noqa: ANN401
        """Delete consumers."""
        claims = self.workers[worker]
        return await (claims.delete_silent_consumers(AGED_MS) if silent else claims.delete_consumer())

    async def do_commit(self, number: int, ahead: int, *, ends: bool) -> Any:  # noqa: ANN401
        """Commit a fact, perhaps the wrong one."""
        if (claim := self._claim(number)) is None:
            return None
        serial = self.serials.get(claim.keys.member, 0) + ahead
        fact = ended(serial) if ends else final(serial)
        [answer] = await self.log.commit([commit(claim, serial, fact, ends=ends)])
        if answer.code == Code.OK:
            self.serials[claim.keys.member] = serial
        return answer

    async def do_replay(self, session: int, run: int) -> Any:  # noqa: ANN401
        """Start a replay, on the queue of clients so that the workers find it."""
        keys = self._session(session).run(f"replay-{run}")
        return await self.replays.start(keys, started(SESSIONS[session]), "", total_samples=1, now_ms=1)

    async def do_news(self, consumer: int, *, own: bool, idle: bool) -> Any:  # noqa: ANN401
        """Read a projection's notices."""
        news = await self.projections[consumer].read_notices(
            self.server.keys.partitions, own=frozenset({0} if own else ()), idle_ms=LEASE_MS if idle else None
        )
        found = [notice for one in news for notice in one.notices]
        self.notices = [notice for notice, _ in found]
        return [found, [bool(one.walk) for one in news]]

    async def do_age_notice(self, consumer: int) -> Any:  # noqa: ANN401
        """Make the latest notices look left behind."""
        if not self.notices:
            return None
        changes = self.server.keys.partitions[0].changes
        return await self.server.execute(
            "XCLAIM", changes, "lists", WORKERS[consumer], 0, *self.notices, "IDLE", AGED_MS, "JUSTID"
        )

    async def do_ack(self) -> Any:  # noqa: ANN401
        """Ack the latest notices."""
        return await self.projections[0].ack({self.server.keys.partitions[0]: self.notices})

    async def do_walk(self) -> Any:  # noqa: ANN401
        """Walk over all runs."""
        partition = self.server.keys.partitions[0]
        found = [run.member for runs in [one async for one in self.projections[0].walk(partition)] for run in runs]
        await self.projections[0].finish_walk(partition, "never ordered")
        return sorted(found)

    async def do_trim(self, most: int) -> Any:  # noqa: ANN401
        """Trim the notices."""
        return await trim_changes(self.server, self.server.keys.partitions, most=most)

    async def do_project(self, session: int, limit: int, *, stale: bool) -> Any:  # noqa: ANN401
        """Pull facts and apply something of every kind for them."""
        run, partition = self._session(session).run(), self.server.keys.partitions[0]
        [pulled] = await self.projections[0].pull([run], limit=limit)
        new = pulled.end
        ops = [
            push(run.list, *(str(at).encode() for at, _ in pulled.facts)),
            put(run.document, b"document"), put_fields(run.view, {"at": str(new)}),
            add(run.feed, str(new), {"event": b"e"}, most=100), unrank(partition.ended_runs, run.member),
            rank(partition.open_runs, run.member, 2.0, expires=False), unrank_below(partition.open_runs, 1.0),
            publish(partition.feed_channel, b"message"),
        ] if pulled.facts else []  # fmt: skip
        answers = await self.projections[0].apply([Apply(run, START if stale else pulled.after, new, ops)])
        return [pulled.after, [at for at, _ in pulled.facts], answers]

    async def dump(self) -> list[Any]:
        """Everything stored."""
        found = []
        for key in sorted(await self.server.execute("KEYS", "*")):
            name = key.decode()
            self._ordinals.clear()
            kind = await self.server.execute("TYPE", name)
            ttl_s = await self.server.execute("TTL", name)
            found.append([self.normal(name), kind, ttl_s > 0, await self._content(name, kind)])
        return found

    async def _content(self, key: str, kind: bytes) -> Any:  # noqa: ANN401 - by kind
        match kind:
            case b"string":
                return self.normal(await self.server.execute("GET", key))
            case b"list":
                return self.normal(await self.server.execute("LRANGE", key, 0, -1))
            case b"hash":
                flat = await self.server.execute("HGETALL", key)
                flat = [part for item in flat.items() for part in item] if isinstance(flat, dict) else flat
                return self.normal(dict(zip(flat[::2], flat[1::2], strict=True)))
            case b"zset":
                members = (await self.server.execute("ZSCAN", key, 0))[1]
                if members and not isinstance(members[0], tuple):  # redis-py makes pairs of them
                    members = list(zip(members[::2], members[1::2], strict=True))
                return sorted(self.normal(member) for member, _ in members)
            case _:
                return await self._stream(key)

    async def _stream(self, key: str) -> list[Any]:
        entries = await self.server.execute("XRANGE", key, "-", "+")
        groups = []
        for info in await self.server.execute("XINFO", "GROUPS", key):
            name = _field(info, b"name")
            pending = await self.server.execute("XPENDING", key, name, "-", "+", 1_000)
            consumers = await self.server.execute("XINFO", "CONSUMERS", key, name)
            groups.append([
                name, _field(info, b"last-delivered-id"),
                [[entry, consumer, idle // LEASE_MS, count] for entry, consumer, idle, count in pending],
                [(_field(one, b"name"), _field(one, b"pending")) for one in consumers],
            ])  # fmt: skip
        return [self.normal(entries), self.normal(groups)]


def _field(info: Sequence[Any], name: bytes) -> Any:  # noqa: ANN401 - any field
    return info[list(info[::2]).index(name) * 2 + 1]

