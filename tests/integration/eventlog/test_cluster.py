"""A cluster with one unreachable node: the sessions of the others continue."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from eventlog.keys import SessionKeys, partition_count
from eventlog.log import Append, Appended, Code, LogUnavailableError
from eventlog.positions import OPENED, Position
from eventlog.redis.server import connect
from tests.integration.eventlog.stage import LEASE_MS, PARTITIONS, Stage, chunk
from tests.support import servers
from tests.support.servers import Node, Server
from tests.support.waiting import eventually, eventually_async

SESSIONS = 24
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def breakable() -> Iterator[Server]:
    """A cluster of this file's own."""
    with servers.cluster() as server:
        for node in server.nodes:  # or the whole cluster would refuse to work without one node's slots
            node.client.config_set("cluster-require-full-coverage", "no")
        yield server


@pytest.fixture
async def stage(breakable: Server) -> AsyncIterator[Stage]:
    """The log on a cluster that the test may break."""
    breakable.flush()
    connected = await connect(breakable.url, partitions=PARTITIONS, timeout_s=TIMEOUT_S)
    yield Stage(connected)
    await connected.close()


@pytest.fixture
def hung(breakable: Server) -> Iterator[Node]:
    """A node that can be stopped by signal; it continues, and is a part of the cluster again, after the test."""
    yield from resumed_after(breakable, breakable.nodes[1])


@pytest.fixture
def home(breakable: Server) -> Iterator[Node]:
    """As `hung`: the node that has the number of partitions."""
    slot = breakable.nodes[0].command("CLUSTER KEYSLOT", partition_count())
    yield from resumed_after(breakable, next(node for node in breakable.nodes if owns(node, slot)))


def resumed_after(breakable: Server, node: Node) -> Iterator[Node]:
    """Yields the node, and resumes it."""
    yield node
    node.process.send_signal(signal.SIGCONT)
    eventually(lambda: all(one.command("CLUSTER INFO")["cluster_slots_fail"] == "0" for one in breakable.nodes), 20)


def next_chunks(heads: dict[SessionKeys, Position]) -> list[Append]:
    """The next chunk of each session."""
    return [chunk(keys, head) for keys, head in heads.items()]


async def appended(stage: Stage, heads: dict[SessionKeys, Position]) -> list[Code]:
    """Appends the next chunk of each session, and moves on the heads of those that are OK."""
    chunks = next_chunks(heads)
    answers = await stage.log.append(chunks)
    for one, answer in zip(chunks, answers, strict=True):
        if answer.code == Code.OK:
            heads[one.keys] = one.position
        elif answer.code == Code.MISPLACED:  # the node took it, and its answer came too late
            heads[one.keys] = answer.head
    return [answer.code for answer in answers]


async def test_a_hung_node_holds_up_no_other(stage: Stage, hung: Node) -> None:
    """With one node hung the first round waits for it once, later ones don't, and it is used again once it answers."""
    heads = {await stage.opened(f"s{number}"): OPENED for number in range(SESSIONS)}
    assert set(await appended(stage, heads)) == {Code.OK}
    hung.process.send_signal(signal.SIGSTOP)
    first = await appended(stage, heads)
    assert set(first) == {Code.OK, Code.UNKNOWN}
    started_s = time.monotonic()
    for _ in range(5):
        assert await appended(stage, heads) == first
    assert time.monotonic() - started_s < TIMEOUT_S
    assert await stage.server.time_ms() > 0
    hung.process.send_signal(signal.SIGCONT)

    async def all_well() -> bool:
        return set(await appended(stage, heads)) == {Code.OK}

    await eventually_async(all_well)
    assert all([(await stage.entries(keys))[-1].position == head for keys, head in heads.items()])


async def test_new_sessions_of_other_nodes_are_claimed(stage: Stage, hung: Node) -> None:
    """A worker claims and loads sessions that open on live nodes while another node hangs."""
    a = await stage.worker("a")
    hung.process.send_signal(signal.SIGSTOP)
    opened: list[SessionKeys] = []
    for number in range(SESSIONS):
        try:
            opened.append(await stage.opened(f"s{number}"))
        except LogUnavailableError:
            continue
    assert 0 < len(opened) < SESSIONS
    claims = await a.take_new(stage.server.keys.partitions, 100)
    assert {claim.keys.session.session_id for claim in claims} == {keys.session_id for keys in opened}
    assert {started.code for started in await a.load(claims)} == {Code.OK}
    assert await a.renew(claims) == []


async def test_claims_of_live_nodes_are_taken_over(stage: Stage, hung: Node) -> None:
    """Abandoned claims on live nodes are taken over while another hangs; on that one not before a lease is over."""
    a, b = await stage.worker("a"), await stage.worker("b")
    for number in range(SESSIONS):
        await stage.opened(f"s{number}")
    claims = await a.take_new(stage.server.keys.partitions, 100)
    for claim in claims:
        await stage.age(claim)
    hung.process.send_signal(signal.SIGSTOP)
    requested_at = time.monotonic()
    taken = {claim.keys.member for claim in await eventually_async(lambda: b.take_over(100))}
    away = {claim.keys.member for claim in claims if stage.server.is_unreachable(claim.keys.checkpoint)}
    assert 0 < len(away) < SESSIONS
    assert not taken & away
    hung.process.send_signal(signal.SIGCONT)

    async def taken_at_last() -> set[str]:
        return away & {claim.keys.member for claim in await b.take_over(100)}

    assert await eventually_async(taken_at_last) == away
    assert time.monotonic() - requested_at >= LEASE_MS / 1000


async def test_processes_start_while_a_node_is_unreachable(stage: Stage, breakable: Server, home: Node) -> None:
    """A process starts by any node's address, even without the node that has the partitions' number."""
    await stage.worker("a")
    addresses = ",".join([home.url, *(node.url for node in breakable.nodes if node is not home)])
    home.process.send_signal(signal.SIGSTOP)
    another = Stage(await connect(addresses, partitions=PARTITIONS, timeout_s=TIMEOUT_S))
    claims = await another.worker("b")
    assert await claims.take_new(another.server.keys.partitions, 1) == []
    await another.server.close()
    with pytest.raises(LogUnavailableError):
        await connect(addresses, partitions=2 * PARTITIONS, timeout_s=TIMEOUT_S)


async def test_closed_connections_are_no_dead_node(stage: Stage, breakable: Server) -> None:
    """Connections that the nodes closed while idle cost no append."""
    heads = {await stage.opened(f"s{number}"): OPENED for number in range(SESSIONS)}
    # At once, for several connections to each node; the first of them is the one whose chunks are taken.
    await asyncio.gather(*(appended(stage, dict(heads)) for _ in range(4)))
    heads = {keys: head.advanced(1600) for keys, head in heads.items()}
    for node in breakable.nodes:
        node.command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")
    assert set(await stage.log.append(next_chunks(heads))) == {Appended(Code.OK)}


async def test_a_moved_slot_is_followed(stage: Stage, breakable: Server) -> None:
    """Appends to a partition whose slot has moved to another node continue on that, without an error."""
    keys = stage.keys("s1")
    slot = breakable.nodes[0].command("CLUSTER KEYSLOT", keys.audio)
    source = next(node for node in breakable.nodes if owns(node, slot))
    target = next(node for node in breakable.nodes if node is not source)
    move(breakable, slot, target)
    try:
        await stage.opened("s1")
        assert set(await stage.log.append([chunk(keys, OPENED)])) == {Appended(Code.OK)}
        assert target.client.exists(keys.audio)
        await stage.do("DEL", keys.audio)
    finally:
        for name in target.command("CLUSTER GETKEYSINSLOT", slot, 100):
            target.client.delete(name)
        move(breakable, slot, source)


def owns(node: Node, slot: int) -> bool:
    """Whether a slot is the node's own."""
    mine = node.command("CLUSTER MYID")
    return any(
        first <= slot <= last and master[2] == mine for first, last, master, *_ in raw_slots(node)
    )


def raw_slots(node: Node) -> list[tuple[int, int, list[str]]]:
    """The slots' ranges and their masters, as the node knows them."""
    found: list[tuple[int, int, list[str]]] = node.client.eval("return redis.call('CLUSTER', 'SLOTS')", 0)
    return found


def move(server: Server, slot: int, target: Node) -> None:
    """Make an empty slot another node's."""
    node_id = target.command("CLUSTER MYID")
    for node in server.nodes:
        node.command("CLUSTER SETSLOT", slot, "NODE", node_id)
