"""One Redis or a Redis Cluster behind the same few calls: scripts and commands, pipelined, with typed failures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import redis.asyncio as redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from eventlog import keys as keys_module
from eventlog.keys import Keys
from eventlog.log import LogUnavailableError
from eventlog.redis.cluster import ClusterPipeline, count_replicas, initialize
from eventlog.redis.failures import RedisCall, translate
from eventlog.redis.packing import use_hiredis_packing
from eventlog.telemetry.metering import Meter

if TYPE_CHECKING:
    from eventlog.redis.scripts import Script

T = TypeVar("T")
Argument = str | bytes | int | float

DEFAULT_PARTITIONS = 64
"""Enough for every core of a big cluster to have several, few enough that a sweep over all costs a millisecond."""

CALL_TIMEOUT_S = 5.0
"""Past this a call has failed: no call of ours is meant to take more than milliseconds, and a lease lasts as long."""

CONNECTIONS = 64
"""To one Redis: it answers one call at a time anyway, so a burst (a thousand sessions opening) waits for a free one."""

MIXED = "mixed"
"""Name in the metrics of a round trip with several kinds of calls."""

_FAILURES = (RedisError, OSError)
# Between the addresses of several nodes; a password may hold commas.
_ADDRESSES = re.compile(r",(?=rediss?://)")


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
        """Wrap a client made by `connect`, and time its calls by `meter`."""
        self.meter = meter or Meter()
        self.client = client
        self.keys = keys
        self.url = url
        self._cluster = ClusterPipeline(client) if isinstance(client, RedisCluster) else None
        self.is_cluster = self._cluster is not None

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:  # noqa: ANN401 - a script's answer has the script's own shape
        """Return one script's answer.

        Raises:
            LogUnavailableError: if nothing is known of its fate.
            ResponseError: if the script itself failed, which is a defect.
        """
        [answer] = await self.run_all([Call(script, keys, arguments)])
        return answer

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """As `run_many`, but raise the first `LogUnavailableError` among the answers."""
        return _raise_first(await self.run_many(calls))

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Return each call's answer, or the `LogUnavailableError` it failed with, in order; one round trip per node.

        Raises:
            LogUnavailableError: if no answer came at all.
            ResponseError: if a script itself failed, which is a defect.
        """
        answers, _ = await self.run_waiting(calls, 0, 0)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    async def run_waiting(self, calls: Sequence[Call], replicas: int, timeout_ms: int) -> tuple[list[Any], list[int]]:
        """Return each call's answer or exception, a script's own included; count the replicas that had its effects.

        They are counted up to `replicas`, `timeout_ms` at the longest.
        That many have everything that the call's node had written before, if the call wrote anything: see
        `eventlog.redis.durability`. With `replicas` 0 nothing waits, and no counts come back.
        """
        names = {call.script.name for call in calls}
        wait: tuple[Argument, ...] = ("WAIT", replicas, timeout_ms) if replicas else ()
        answers, counts = await self._round_trip(
            [("EVALSHA", call.script.sha1, len(call.keys), *call.keys, *call.arguments) for call in calls], names, wait
        )
        missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:  # first use, or the server was restarted or failed over: EVAL runs and loads it
            again, counted = await self._round_trip(
                [
                    ("EVAL", call.script.text, len(call.keys), *call.keys, *call.arguments)
                    for call in map(calls.__getitem__, missing)
                ],
                names, wait,
            )  # fmt: skip
            for index, number in enumerate(missing):
                answers[number] = again[index]
                if counted:
                    counts[number] = counted[index]
        return answers, counts

    async def execute(self, *command: Argument) -> Any:  # noqa: ANN401 - Redis's answer has the command's own shape
        """Return one command's raw answer.

        Raises:
            LogUnavailableError: if nothing is known of its fate.
            ResponseError: if Redis refused it.
        """
        [answer] = await self.execute_all([command])
        return answer

    async def execute_all(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """As `execute_many`, but raise the first exception among the answers."""
        return _raise_first(await self.execute_many(commands))

    async def execute_many(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Return each command's raw answer, or the exception it failed with, in order; pipelined, all nodes at once.

        Raises:
            LogUnavailableError: if no answer came at all.
        """
        answers, _ = await self._round_trip(commands, {str(command[0]) for command in commands})
        return answers

    async def _round_trip(
        self, commands: Sequence[tuple[Argument, ...]], names: set[str], wait: tuple[Argument, ...] = ()
    ) -> tuple[list[Any], list[int]]:
        """Send `commands`, called `names` in the metrics; return their answers, and the replicas that `wait` counted.

        `wait` goes behind them on the same connection.
        """
        if not commands:
            return [], []
        observe_s, count_unavailable = self.meter.calls[next(iter(names)) if len(names) == 1 else MIXED]
        started = time.perf_counter()
        try:
            with RedisCall():
                if self._cluster:
                    answers, counts = await self._cluster.execute(commands, wait)
                else:
                    answers = await self._pipelined([*commands, wait] if wait else commands)
                    counts = [count_replicas(answers.pop())] * len(commands) if wait else []
        except LogUnavailableError:
            count_unavailable()
            raise
        finally:
            observe_s(time.perf_counter() - started)
        unavailable = 0
        for number, answer in enumerate(answers):
            if isinstance(answer, _FAILURES):
                answers[number] = failure = translate(answer)
                unavailable += isinstance(failure, LogUnavailableError)
        if unavailable == len(answers):
            raise answers[0]
        return answers, counts

    async def _pipelined(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def each_master(self, *command: Argument) -> dict[str, Any]:
        """Return every master's answer to a command without keys, or the exception it failed with, by its address.

        Those that can't be reached are left out.

        Raises:
            LogUnavailableError: if none can.
        """
        if self._cluster:
            with RedisCall():
                found = await self._cluster.each_master(command)
        else:
            [answer] = await self.execute_many([command])
            found = {self._address: answer}
        for name, answer in found.items():
            if isinstance(answer, _FAILURES):
                found[name] = translate(answer)
        reached = {name: answer for name, answer in found.items() if not isinstance(answer, LogUnavailableError)}
        if not reached:
            raise LogUnavailableError("no master of the cluster answers")
        return reached

    def node_of(self, key: str) -> str:
        """Return the address of the master that has `key`, as `each_master` names it; empty if no master has it."""
        return self._cluster.node_of(key) if self._cluster else self._address

    @property
    def _address(self) -> str:
        return self.url.rpartition("@")[2].rpartition("//")[2].partition("/")[0]

    def is_unreachable(self, key: str) -> bool:
        """Whether the cluster node that has `key` is known not to answer now."""
        return self._cluster is not None and self._cluster.is_unreachable(key)

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
        """Return Redis's own clock, Unix ms."""
        if self._cluster:
            with RedisCall():
                seconds, microseconds = await self._cluster.time()
        else:
            seconds, microseconds = await self.execute("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def close(self) -> None:
        """Close every connection."""
        if self._cluster:
            await self._cluster.close()
        await self.client.aclose()


def _raise_first(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


class Tls(NamedTuple):
    """Files (PEM) for ``rediss://``; empty for the system's authorities, and for no certificate of ours."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def options(self, url: str) -> dict[str, Any]:
        """Return redis-py's options; none for an address without TLS, whose connections know no such options."""
        if not url.startswith("rediss://"):
            return {}
        given = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        return {name: path for name, path in given.items() if path}


SYSTEM_TLS = Tls()
"""Trusts the system's authorities."""


async def connect(
    url: str, *, partitions: int = DEFAULT_PARTITIONS, timeout_s: float = CALL_TIMEOUT_S,
    tls: Tls = SYSTEM_TLS,
) -> Server:  # fmt: skip
    """Connect to the Redis at `url`, a single one or any node of a cluster, and agree on the number of partitions.

    Several nodes of a cluster may be given, separated by commas: the first that answers names the others. An
    unreachable master keeps no process from starting as long as the others have a part of the deployment. With
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
        # One more try covers a connection that the server closed while it lay in the pool.
        "retry": Retry(ExponentialBackoff(base=0.01, cap=0.1), 1),
        **tls.options(url),
    }
    client: redis.Redis | RedisCluster = redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=timeout_s, redis_connect_func=meter.on_connect, **options
        )
    )
    use_hiredis_packing(client)
    with RedisCall():
        info = await client.info("cluster")
    if info.get("cluster_enabled"):
        await client.aclose()
        # Zero: it shall learn moved slots one by one, for its other way closes every connection that others use.
        client = RedisCluster.from_url(url, reinitialize_steps=0, **options)
        # It takes no such option, but hands what stands there on to the nodes that it finds.
        client.connection_kwargs["redis_connect_func"] = meter.on_connect
        use_hiredis_packing(client)
        with RedisCall():
            await initialize(client)
    for command in [name for name in client.response_callbacks if str(name).upper().startswith("X")]:
        del client.response_callbacks[command]  # raw stream answers: a tenth of the cost of redis-py's dictionaries
    server = Server(client, Keys(partitions), url, meter)
    try:
        await _check_deployment(server, partitions)
    except BaseException:
        await server.close()
        raise
    return server


async def _check_deployment(server: Server, partitions: int) -> None:
    """Raise `DeploymentMismatchError` if a process with that many partitions can't work with the deployment."""
    for memory in (await server.each_master("INFO", "memory")).values():
        if isinstance(memory, Exception):
            raise memory
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":  # evicted keys are speech lost without an error
            raise DeploymentMismatchError(
                f"Redis evicts keys when its memory is full (maxmemory-policy {policy}); set it to noeviction"
            )
    key = keys_module.partition_count()
    try:
        stored = await server.execute("GET", key)
        if stored is None:  # not blindly: a full server refuses SET, and the roles that drain it must be able to start
            await server.execute("SET", key, partitions, "NX")
            stored = await server.execute("GET", key)
    except LogUnavailableError:
        # The key's node doesn't answer. Every partition of a deployment has its stream of sessions, which workers make
        # when they start, and under another number of partitions hardly any has the same tag.
        found = await server.execute_many([("EXISTS", partition.sessions) for partition in server.keys.partitions])
        reached = [answer for answer in found if not isinstance(answer, Exception)]
        if len(reached) > 1 and all(reached):
            return
        raise
    if int(stored) != partitions:
        raise DeploymentMismatchError(
            f"this deployment has {int(stored)} partitions, and the setting says {partitions}; "
            f"set STENOLOG_PARTITIONS={int(stored)}, or use an empty Redis"
        )
