"""Calls while Redis is unreachable, restarts, or is another deployment."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis._parsers.base import BaseParser

from eventlog.log import Appended, Claim, Code, LogUnavailableError
from eventlog.positions import OPENED, START
from eventlog.redis.failures import translate
from eventlog.redis.server import CONNECTIONS, connect
from eventlog.work.claims import Claims
from stenolog.local.embedded import free_port
from tests.integration.eventlog.stage import LEASE_MS, PARTITIONS, TOKEN, TTL_S, Stage, chunk, commit, final, started
from tests.support import servers
from tests.support.servers import Server
from tests.support.waiting import eventually_async

CALLS: dict[str, Callable[[Stage, Claim], Awaitable[object]]] = {
    "open": lambda stage, _: stage.log.open(stage.keys("s2"), started("s2"), TOKEN),
    "resume": lambda stage, claim: stage.log.resume(claim.keys.session, TOKEN),
    "append": lambda stage, claim: stage.log.append([chunk(claim.keys.session, OPENED)]),
    "read": lambda stage, claim: stage.log.read({claim.keys.session: START}, max_bytes_each=1000),
    "commit": lambda stage, claim: stage.log.commit([commit(claim, 1, final(0))]),
    "facts": lambda stage, claim: stage.log.facts(claim.keys, START),
    "touch": lambda stage, claim: stage.log.touch([(claim.keys.session, 1)]),
    "seal": lambda stage, claim: stage.log.seal(claim.keys.session, "idle"),
    "claim": lambda stage, claim: claims(stage).take_new([claim.keys.partition], 1),
    "take over": lambda stage, _: claims(stage).take_over(1),
    "begin": lambda stage, claim: claims(stage).load([claim]),
    "renew": lambda stage, claim: claims(stage).renew([claim]),
    "hand over": lambda stage, claim: claims(stage).hand_over([claim]),
    "set aside": lambda stage, claim: claims(stage).quarantine(claim, "broken"),
    "sweep": lambda stage, claim: claims(stage).reoffer_missing(claim.keys.partition),
    "retire": lambda stage, _: claims(stage).delete_consumer(),
    "clock": lambda stage, _: stage.server.time_ms(),
}
READS = {"read", "facts", "clock"}


def claims(stage: Stage) -> Claims:
    """A worker's claims, without a check of its groups."""
    return Claims(stage.server, "a", lease_ms=LEASE_MS, session_ttl_s=TTL_S)


@pytest.fixture
async def own() -> AsyncIterator[tuple[Stage, Server]]:
    """The log on a server that the test may break."""
    with servers.standalone() as server:
        connected = await connect(server.url, partitions=PARTITIONS)
        yield Stage(connected), server
        await connected.close()


async def test_every_call_raises_while_redis_is_unreachable(own: tuple[Stage, Server]) -> None:
    """With the server killed every method raises the log's own error and none of the client library's."""
    stage, server = own
    await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    server.nodes[0].stop()
    for name, call in CALLS.items():
        with pytest.raises(LogUnavailableError):
            pytest.fail(f"{name} answered {await call(stage, claim)}")


@pytest.mark.parametrize("cause", ["too few replicas", "a replica"])
async def test_every_write_raises_while_redis_takes_none(own: tuple[Stage, Server], cause: str) -> None:
    """A server that takes no writes now, as in a failover, is unavailable, and used again later (SAFE-1)."""
    stage, server = own
    await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    commands: dict[str, tuple[tuple[str | int, ...], tuple[str | int, ...]]] = {
        "too few replicas": (("CONFIG SET", "min-replicas-to-write", 1), ("CONFIG SET", "min-replicas-to-write", 0)),
        "a replica": (("REPLICAOF", "127.0.0.1", free_port()), ("REPLICAOF", "NO", "ONE")),
    }
    breaking, mending = commands[cause]
    server.nodes[0].command(*breaking)
    for name, call in CALLS.items():
        if name not in READS:
            with pytest.raises(LogUnavailableError):
                pytest.fail(f"{name} answered {await call(stage, claim)}")
    server.nodes[0].command(*mending)
    assert await stage.append(chunk(claim.keys.session, OPENED)) == Appended(Code.OK)
    assert (await stage.commit(commit(claim, 1, final(0)))).code == Code.OK


async def test_a_call_after_a_stall_is_repeated(own: tuple[Stage, Server]) -> None:
    """A call that got no answer in time fails as unavailable; repeated after the stall it is in the log, once."""
    _, server = own
    connected = await connect(server.url, partitions=PARTITIONS, timeout_s=0.05)
    stage = Stage(connected)
    keys = await stage.opened()
    one = chunk(keys, OPENED)
    server.nodes[0].process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(LogUnavailableError):
            await stage.append(one)
    finally:
        server.nodes[0].process.send_signal(signal.SIGCONT)

    async def answered() -> Appended | None:
        try:
            return await stage.append(one)
        except LogUnavailableError:
            return None

    answer = await eventually_async(answered)
    assert answer is not None
    assert answer.code == Code.OK or answer.head >= one.position
    assert [entry.pcm for entry in await stage.entries(keys, OPENED)] == [one.payload]
    await connected.close()


async def test_a_dead_node_is_the_logs_own_error() -> None:
    """With one node of a cluster dead no append to it is OK, and the log's own code or error comes instead."""
    with servers.cluster() as server:
        connected = await connect(server.url, partitions=PARTITIONS, timeout_s=1)
        stage = Stage(connected)
        flush = [chunk(await stage.opened(f"s{number}"), OPENED) for number in range(16)]
        dead = server.nodes[1]
        # What the other nodes hold stays in use, as it does until a cluster has noticed.
        for node in server.nodes:
            node.command("CONFIG SET", "cluster-require-full-coverage", "no")
        dead.stop()
        first = await stage.log.append(flush)
        assert {answer.code for answer in first} == {Code.OK, Code.UNKNOWN}
        with pytest.raises(LogUnavailableError):
            await stage.log.append([one for one, answer in zip(flush, first, strict=True) if answer.code != Code.OK])
        await connected.close()


@pytest.mark.parametrize(
    "answer",
    [
        "LOADING Redis is loading the dataset in memory", "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down", "BUSY Redis is busy running a script.",
        "NOREPLICAS Not enough good replicas to write.", "MISCONF Redis is configured to save RDB snapshots",
    ],
    ids=lambda answer: answer.partition(" ")[0],
)  # fmt: skip
def test_answers_that_pass_are_unavailability(answer: str) -> None:
    """Errors of a server that can't serve now count as an unavailable log, for a later call may succeed."""
    assert isinstance(translate(BaseParser.parse_error(answer)), LogUnavailableError)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("answer", ["BUSYGROUP Consumer Group name already exists", "WRONGTYPE no", "ERR what"])
def test_answers_that_stay_are_defects(answer: str) -> None:
    """Errors that a server would repeat stay unchanged, so that no caller retries for ever."""
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    assert translate(error) is error


async def test_forgotten_scripts_are_sent_again(stage: Stage) -> None:
    """After a server lost its scripts, by a restart or SCRIPT FLUSH, the same calls succeed as before."""
    keys, head = await stage.spoken()
    claim = await stage.claimed(await stage.worker("a"))
    await stage.server.client.script_flush()
    later = [chunk(keys, head), chunk(keys, head.advanced(1600))]
    assert await stage.log.append(later) == [Appended(Code.OK)] * 2
    assert (await stage.commit(commit(claim, 1, final(0)))).code == Code.OK
    assert len(await stage.entries(keys, head)) == 2


async def test_a_burst_waits_for_a_connection(single: Stage) -> None:
    """More concurrent callers than connections all get their answers."""
    answers = await asyncio.gather(*(single.opened(f"s{number}") for number in range(4 * CONNECTIONS)))
    assert len(answers) == 4 * CONNECTIONS
