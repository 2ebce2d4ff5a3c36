"""Acks under each durability, and the findings on servers that don't give it."""

import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from eventlog.events import Finalized
from eventlog.log import Append, Appended, Code, LogUnavailableError
from eventlog.positions import OPENED
from eventlog.redis.durability import (
    FAST,
    PROBE_MS,
    Durability,
    Finding,
    check_durability,
    find_fatal,
    parse_durability,
)
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import connect
from eventlog.work.erasure import erase
from tests.integration.eventlog.stage import PARTITIONS, TOKEN, TTL_S, Stage, chunk, control, started
from tests.support import servers
from tests.support.servers import Server
from tests.support.waiting import eventually, eventually_async

# A replica that lives answers at once, unless the machine is busy; one that is stopped never does.
PATIENT = Durability("wait", 1, timeout_ms=4000)
HASTY = PATIENT._replace(timeout_ms=100)
DEGRADED = HASTY._replace(may_degrade=True)
OK, UNKNOWN = Appended(Code.OK), Appended(Code.UNKNOWN)


class Copied(Stage):
    """A log on a master with one replica."""

    master: servers.Node
    replica: servers.Node

    async def log_of(self, asked: Durability) -> RedisLog:
        """The log on connections of its own, as another process has it."""
        return RedisLog(await connect(self.server.url, partitions=PARTITIONS), session_ttl_s=TTL_S, durability=asked)

    def part(self) -> None:
        """Cut the replica off."""
        self.replica.process.send_signal(signal.SIGSTOP)

    def rejoin(self) -> None:
        """Let the replica catch up."""
        self.replica.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def replicated() -> Iterator[Server]:
    """A master and its replica."""
    with servers.replicated(1) as server:
        yield server


@pytest.fixture
async def copied(replicated: Server) -> AsyncIterator[Copied]:
    """An empty log there; the replica continues at the end."""
    replicated.nodes[0].client.flushall()
    found = Copied(await connect(replicated.url, partitions=PARTITIONS))
    found.master, found.replica = replicated.nodes
    eventually(lambda: replicated.nodes[0].command("WAIT", 1, 100) == 1)
    yield found
    found.rejoin()
    await found.server.close()


@pytest.fixture
async def strict(copied: Copied) -> AsyncIterator[RedisLog]:
    """The log of an edge with `wait:1` and a short timeout."""
    found = await copied.log_of(HASTY)
    yield found
    await found.server.close()


@pytest.fixture
async def patient(copied: Copied) -> AsyncIterator[RedisLog]:
    """The same, for the time in which the replica lives."""
    found = await copied.log_of(PATIENT)
    yield found
    await found.server.close()


@pytest.fixture
async def one(patient: RedisLog, copied: Copied) -> Append:
    """The first chunk of an open session."""
    keys = copied.keys()
    assert (await patient.open(keys, started("s1"), TOKEN)).code is Code.OK
    return chunk(keys, OPENED)


async def test_an_append_without_a_replica_is_not_done(
    copied: Copied, strict: RedisLog, patient: RedisLog, one: Append
) -> None:
    """SAFE-1: with `wait:1` an append that the replica lacks is UNKNOWN each time, and done once the replica has it."""
    assert await patient.append([one]) == [OK]
    two = control(one.keys, one.position, Finalized())
    copied.part()
    assert await strict.append([two]) == [UNKNOWN]
    assert await strict.append([two]) == [UNKNOWN]
    assert strict.durable_calls.is_short
    assert strict.durable_calls.unconfirmed == 2
    copied.rejoin()

    answer = await eventually_async(lambda: confirmed(strict, two))
    assert answer is not None
    assert (answer.code, answer.head) == (Code.MISPLACED, two.position)
    assert [entry.position for entry in await copied.entries(one.keys, OPENED)] == [one.position, two.position]


async def confirmed(log: RedisLog, append: Append) -> Appended | None:
    """The answer to an append, if it is confirmed."""
    [answer] = await log.append([append])
    return None if answer == UNKNOWN else answer


async def test_another_connections_write_is_waited_for_too(
    copied: Copied, strict: RedisLog, one: Append
) -> None:
    """SAFE-1: on a connection that never wrote, an append already in the log isn't done while a replica lacks it."""
    copied.part()
    assert await strict.append([one]) == [UNKNOWN]
    another = await copied.log_of(HASTY)
    try:
        assert await another.append([one]) == [UNKNOWN]
    finally:
        await another.server.close()


async def test_a_truncated_log_answers_without_replicas(copied: Copied, strict: RedisLog, one: Append) -> None:
    """An append whose predecessor the log lacks gets the log's head, replicated or not."""
    copied.part()
    assert await strict.append([chunk(one.keys, one.position)]) == [Appended(Code.MISPLACED, 1, OPENED)]


async def test_no_answer_lets_a_client_forget_unreplicated_audio(
    copied: Copied, strict: RedisLog, patient: RedisLog, one: Append
) -> None:
    """SAFE-1: neither a resume nor a read returns a stream's end before the replica has it up to there."""
    copied.part()
    assert await strict.append([one]) == [UNKNOWN]
    with pytest.raises(LogUnavailableError):
        await strict.resume(one.keys, TOKEN)
    with pytest.raises(LogUnavailableError):
        await strict.read_durable_position(one.keys)
    copied.rejoin()
    position = await patient.read_durable_position(one.keys)
    assert position is not None
    assert position.head == one.position
    assert (await patient.resume(one.keys, TOKEN)).head == one.position


async def test_no_unreplicated_erasure_is_confirmed(
    copied: Copied, strict: RedisLog, patient: RedisLog, one: Append
) -> None:
    """STITCH-5: with `wait:1` no erasure is confirmed while a failover could bring the session back."""
    copied.part()
    with pytest.raises(LogUnavailableError):
        await erase(copied.server, one.keys, "", strict.durable_calls)
    copied.rejoin()
    await erase(copied.server, one.keys, "", patient.durable_calls)
    assert not copied.replica.client.exists(one.keys.session, one.keys.audio)


async def test_no_unreplicated_session_is_opened(copied: Copied, strict: RedisLog, patient: RedisLog) -> None:
    """With `wait:1` an opening that the replica lacks raises, and a second try finds the session."""
    copied.part()
    with pytest.raises(LogUnavailableError):
        await strict.open(copied.keys(), started("s1"), TOKEN)
    copied.rejoin()
    assert (await patient.open(copied.keys(), started("s1"), TOKEN)).code is Code.EXISTS


async def test_degrading_acks_unreplicated_appends(copied: Copied, one: Append) -> None:
    """With `degrade` the appends of a log short of replicas are done, counted, and not held up by them for long."""
    log = await copied.log_of(DEGRADED)
    copied.part()
    assert await log.append([one]) == [OK]
    assert log.durable_calls.unconfirmed == 1
    waits: list[int] = []
    run_waiting = log.server.run_waiting

    async def noted(calls: object, replicas: int, timeout_ms: int) -> object:
        waits.append(timeout_ms)
        return await run_waiting(calls, replicas, timeout_ms)  # type: ignore[arg-type]

    log.server.run_waiting = noted  # type: ignore[method-assign,assignment]
    two = chunk(one.keys, one.position)
    assert await log.append([two]) == [OK]
    assert waits == [PROBE_MS]
    copied.rejoin()
    await eventually_async(lambda: recovered(log, two))
    await log.server.close()


async def recovered(log: RedisLog, append: Append) -> bool:
    """Whether an append finds enough replicas."""
    await log.append([append])
    return not log.durable_calls.is_short


async def test_the_first_use_of_a_script_is_waited_for(copied: Copied, patient: RedisLog, one: Append) -> None:
    """An append that must send its script once more is done as any other."""
    copied.master.client.script_flush()
    assert await patient.append([one]) == [OK]


async def test_without_replicas_to_wait_for_nothing_waits(copied: Copied, one: Append) -> None:
    """With `fast` a stopped replica changes nothing."""
    copied.part()
    assert await copied.log.append([one]) == [OK]


async def test_too_few_replicas_are_a_finding_but_not_fatal(copied: Copied) -> None:
    """A replica that is missing at the start is a finding only: it may come, and until then nothing is acked anyway."""
    asked = parse_durability("wait:2")
    found = await check_durability(copied.server, asked)
    assert any("1 of 2 replicas" in one.text for one in found)
    assert find_fatal(asked, found) == ""


async def test_safe_is_refused_where_it_is_not_given(copied: Copied) -> None:
    """SAFE-1: `safe` isn't promised on a server without an append-only file, or with one synced now and then."""
    safe, client = parse_durability("safe"), copied.master.client
    assert "set appendonly yes" in find_fatal(safe, await check_durability(copied.server, safe))
    client.config_set("appendonly", "yes")
    try:
        assert "appendfsync everysec" in find_fatal(safe, await check_durability(copied.server, safe))
        client.config_set("appendfsync", "always")
        assert await check_durability(copied.server, safe) == []
        client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
        [unseen] = await check_durability(copied.server, safe)
        assert "can't be seen" in unseen.text
        assert find_fatal(safe, [unseen]) == ""
    finally:
        client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
        client.config_set("appendfsync", "everysec")
        client.config_set("appendonly", "no")


async def test_fast_without_a_file_is_a_finding(copied: Copied) -> None:
    """A server that keeps nothing on disk is a finding, and used: its operator may want that."""
    [one] = await check_durability(copied.server, FAST)
    assert one == Finding(one.node, one.text, "set appendonly yes", is_fatal=False)
    assert find_fatal(FAST, [one]) == ""


@pytest.mark.parametrize("text", ["fast", "safe", "wait:1", "wait:9"])
def test_durabilities_print_as_their_setting(text: str) -> None:
    """Each durability parses and prints as the same text."""
    assert str(parse_durability(text)) == text


@pytest.mark.parametrize("text", ["", "slow", "wait", "wait:0", "wait:10", "safe:1"])
def test_other_durabilities_are_refused(text: str) -> None:
    """Any other text is refused."""
    with pytest.raises(ValueError, match="durability is fast, safe or wait:N"):
        parse_durability(text)
