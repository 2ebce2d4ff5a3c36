"""One Redis or a Redis Cluster behind the same few calls: scripts and commands, pipelined, with typed failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import redis.asyncio as redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventlog.keys import Keys
from eventlog.log import LogFullError, LogUnavailableError
from eventlog.redis.cancellation import honoured
from eventlog.redis.cluster import Rounds, initialize, replicas_told
from eventlog.redis.deployment_checks import disagreement
from eventlog.redis.packing import use_hiredis_packing
from eventlog.telemetry.metering import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventlog.redis.scripts import Script

T = TypeVar("T")
Argument = str | bytes | int | float

DEFAULT_PARTITIONS = 64
"""Enough for every core of a big cluster to have several, few enough that a sweep over all costs a millisecond."""

CALL_TIMEOUT_S = 5.0
"""Past this a call has failed: no call of ours is meant to take more than milliseconds, and a lease lasts as long."""

CONNECTIONS = 64
"""To one Redis: it answers one call at a time anyway, so a burst (a thousand sessions opening) waits for a free one."""

# Between the addresses of several nodes; a password may hold commas.
_ADDRESSES = re.compile(r",(?=rediss?://)")

# The last two are answers of a server that can't serve now (failover, resharding); others of that kind are
# ConnectionErrors or ClusterErrors of redis-py, which takes the code off their text.
_UNAVAILABLE = (
    RedisConnectionError, RedisTimeoutError, ClusterError, RedisClusterException, OSError, TimeoutError, ReadOnlyError,
    TryAgainError,
)  # fmt: skip
# The same without a class of their own: a script that won't end, too few replicas, a disk that can't be written.
_TRY_AGAIN_PREFIXES = ("BUSY ", "NOREPLICAS ", "MISCONF ")
# What uvloop says, as a RuntimeError, of a write to a connection that was reset since its loop last looked.
_HANDLE_CLOSED = "the handler is closed"


class DeploymentMismatchError(Exception):
    """This process and the deployment disagree on something that can't be changed while it holds data."""


class Call(NamedTuple):
    """One script call."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]


class Server:
    """A connection pool to one Redis or a Redis Cluster, and the keys of the deployment in it."""

    def __init__(self, client: redis.Redis | RedisCluster, keys: Keys, url: str, meter: Meter | None = None) -> None:
        """Wrap a client made by `connect`; what its calls take goes to `meter`."""
        self.meter = meter or Meter()
        self.client = client
        self.keys = keys
        self.url = url
        self._rounds = Rounds(client) if isinstance(client, RedisCluster) else None
        self.is_cluster = self._rounds is not None

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:  # noqa: ANN401 - a script's answer has the script's own shape
        """One script's answer.

        Raises:
            LogUnavailableError: if nothing is known of its fate.
            ResponseError: if the script itself failed, which is a defect.
        """
        [answer] = await self.run_many([Call(script, keys, arguments)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Each call's answer, or the `LogUnavailableError` it failed with, in order; one round trip per node.

        Raises:
            LogUnavailableError: if no answer came at all.
            ResponseError: if a script itself failed, which is a defect.
        """
        kind = _kind(call.script.name for call in calls)
        answers = await self.execute_many([_evalsha(call) for call in calls], kind=kind)
        missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:  # first use, or the server was restarted or failed over: EVAL runs and loads it
            again = await self.execute_many([_eval(calls[number]) for number in missing], kind=kind)
            for number, answer in zip(missing, again, strict=True):
                answers[number] = answer
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    async def run_waiting(self, calls: Sequence[Call], replicas: int, timeout_ms: int) -> tuple[list[Any], list[int]]:
        """As `run_many`; and how many replicas had each call's effects after `timeout_ms` at most, up to `replicas`.

        That many have everything that the call's node had written before, if the call wrote anything: see
        `eventlog.redis.durability`.
        """
        kind = _kind(call.script.name for call in calls)
        wait = ("WAIT", replicas, timeout_ms)
        answers, counts = await self._executed([_evalsha(call) for call in calls], kind, wait)
        missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            again = await self._executed([_eval(calls[number]) for number in missing], kind, wait)
            for number, answer, count in zip(missing, *again, strict=True):
                answers[number], counts[number] = answer, count
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers, counts

    async def execute_many(self, commands: Sequence[tuple[Argument, ...]], *, kind: str = "") -> list[Any]:
        """Each command's raw answer, or the exception it failed with, in order; pipelined, all nodes at once.

        The metrics name the round trip by `kind`, or by its commands.

        Raises:
            LogUnavailableError: if no answer came at all.
        """
        answers, _ = await self._executed(commands, kind or _kind(str(command[0]) for command in commands))
        return answers

    async def _executed(
        self, commands: Sequence[tuple[Argument, ...]], kind: str, wait: tuple[Argument, ...] = ()
    ) -> tuple[list[Any], list[int]]:
        """Each command's answer, and what `wait` answered behind it on the same connection."""
        if not commands:
            return [], []
        with self.meter.call(kind), calling():
            if self._rounds:
                answers, counts = await self._rounds.execute(commands, wait)
            else:
                answers = await self._pipelined([*commands, wait] if wait else commands)
                counts = [replicas_told(answers.pop())] * len(commands) if wait else []
        judged = [_judged(answer) for answer in answers]
        if all(isinstance(answer, LogUnavailableError) for answer in judged):
            raise judged[0]
        return judged, counts

    async def _pipelined(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def each_master(self, *command: Argument) -> dict[str, Any]:
        """The answer of every master to a command without keys, or the exception it failed with, by its address.

        Those that can't be reached are left out.

        Raises:
            LogUnavailableError: if none can.
        """
        if self._rounds:
            with calling():
                found = await self._rounds.each_master(command)
        else:
            [answer] = await self.execute_many([command])
            found = {self._address: answer}
        judged = {name: _judged(answer) for name, answer in found.items()}
        reached = {name: answer for name, answer in judged.items() if not isinstance(answer, LogUnavailableError)}
        if not reached:
            raise LogUnavailableError("no master of the cluster answers")
        return reached

    async def execute(self, *command: Argument) -> Any:  # noqa: ANN401 - Redis's answer has the command's own shape
        """One command's raw answer.

        Raises:
            LogUnavailableError: if nothing is known of its fate.
            ResponseError: if Redis refused it.
        """
        [answer] = await self.execute_many([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def node_of(self, key: str) -> str:
        """The address of the master that has `key`, as `each_master` names it; empty if there is none."""
        return self._rounds.node_of(key) if self._rounds else self._address

    @property
    def _address(self) -> str:
        return self.url.rpartition("@")[2].rpartition("//")[2].partition("/")[0]

    def is_away(self, key: str) -> bool:
        """Whether the node of a cluster that has `key` is known not to answer now."""
        return self._rounds is not None and self._rounds.is_away(key)

    def groups(self, items: Iterable[T], partition: Callable[[T], int]) -> list[list[T]]:
        """Cut `items` into those that one multi-key command may hold: per partition on a cluster, all on one Redis."""
        if not self.is_cluster:
            together = list(items)
            return [together] if together else []
        apart: dict[int, list[T]] = {}
        for item in items:
            apart.setdefault(partition(item), []).append(item)
        return list(apart.values())

    async def time_ms(self) -> int:
        """Redis's own clock, Unix ms."""
        if self._rounds:
            with calling():
                seconds, microseconds = await self._rounds.time()
        else:
            seconds, microseconds = await self.execute("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def close(self) -> None:
        """Close every connection."""
        if self._rounds:
            await self._rounds.close()
        await self.client.aclose()


class Tls(NamedTuple):
    """Files (PEM) for ``rediss://``; empty for the system's authorities, and for no certificate of ours."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def options(self, url: str) -> dict[str, Any]:
        """As redis-py has them; none for an address without TLS, whose connections know no such options."""
        if not url.startswith("rediss://"):
            return {}
        given = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        return {name: path for name, path in given.items() if path}


SYSTEM_TLS = Tls()
"""Whatever the system trusts."""


async def connect(
    url: str, *, partitions: int = DEFAULT_PARTITIONS, timeout_s: float = CALL_TIMEOUT_S,
    tls: Tls = SYSTEM_TLS,
) -> Server:  # fmt: skip
    """Connect to the Redis at `url`, a single one or any node of a cluster, and agree on the number of partitions.

    Of a cluster several nodes may be given, separated by commas: the first that answers tells of the others, and a
    master that is away keeps nobody from starting as long as the others have a part of the deployment. With
    ``rediss://`` its certificate is checked, by `tls`; a user and a password may stand in the address.

    Raises:
        LogUnavailableError: if it can't be reached.
        DeploymentMismatchError: if the deployment has another number of partitions, or Redis would evict keys, or its
            user may do too little.
    """
    *others, last = _ADDRESSES.split(url)
    try:
        for one in others:
            with suppress(LogUnavailableError):
                return await _connect(one, partitions, timeout_s, tls)
        return await _connect(last, partitions, timeout_s, tls)
    except NoPermissionError as error:
        raise DeploymentMismatchError(f"the Redis user lacks a right (see docs/security.md): {error}") from error


async def _connect(url: str, partitions: int, timeout_s: float, tls: Tls) -> Server:
    meter = Meter()
    options: dict[str, Any] = {
        "protocol": 2,  # one shape of answers on every server; nothing here needs RESP3
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        **tls.options(url),
    }
    # One more try covers a connection that the server closed while it lay in the pool.
    options["retry"] = Retry(ExponentialBackoff(base=0.01, cap=0.1), 1)
    client: redis.Redis | RedisCluster = redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=timeout_s, redis_connect_func=meter.on_connect, **options
        )
    )
    use_hiredis_packing(client)
    with calling():
        info = await client.info("cluster")
    if info.get("cluster_enabled"):
        await client.aclose()
        # Zero: it shall learn moved slots one by one, for its other way closes every connection that others use.
        client = RedisCluster.from_url(url, reinitialize_steps=0, **options)
        # It takes no such option, but hands what stands there on to the nodes that it finds.
        client.connection_kwargs["redis_connect_func"] = meter.on_connect
        use_hiredis_packing(client)
        with calling():
            await initialize(client)
    for command in [name for name in client.response_callbacks if str(name).upper().startswith("X")]:
        del client.response_callbacks[command]  # raw stream answers: a tenth of the cost of redis-py's dictionaries
    server = Server(client, Keys(partitions), url, meter)
    try:
        refused = await disagreement(server, partitions)
    except BaseException:
        await server.close()
        raise
    if refused:
        await server.close()
        raise DeploymentMismatchError(refused)
    return server


@contextmanager
def calling() -> Iterator[None]:
    """Around every await of redis-py: `translated`, and no cancellation is lost."""
    with honoured(), translated():
        yield


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises for an unreachable server into `LogUnavailableError`."""
    try:
        yield
    except OutOfMemoryError as error:
        raise LogFullError(str(error)) from error
    except _UNAVAILABLE as error:
        raise LogUnavailableError(str(error) or type(error).__name__) from error
    except ResponseError as error:
        if str(error).startswith(_TRY_AGAIN_PREFIXES):
            raise LogUnavailableError(str(error)) from error
        raise
    except RuntimeError as error:
        if _HANDLE_CLOSED not in str(error):
            raise
        raise LogUnavailableError("the connection was reset") from error


def _judged(answer: Any) -> Any:  # noqa: ANN401 - whatever Redis answered
    if not isinstance(answer, RedisError | OSError):
        return answer
    try:
        with translated():
            raise answer
    except (LogUnavailableError, RedisError) as error:
        return error


def _kind(names: Iterable[str]) -> str:
    """What a round trip is called in the metrics."""
    found = set(names)
    return found.pop() if len(found) == 1 else "mixed"


def _evalsha(call: Call) -> tuple[Argument, ...]:
    return ("EVALSHA", call.script.sha1, len(call.keys), *call.keys, *call.arguments)


def _eval(call: Call) -> tuple[Argument, ...]:
    return ("EVAL", call.script.text, len(call.keys), *call.keys, *call.arguments)
