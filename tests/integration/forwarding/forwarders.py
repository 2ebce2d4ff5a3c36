"""Forwarders at work, and what tests look at of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from eventlog.events import Batch, Fact, SessionOpened
from eventlog.keys import RunKeys
from eventlog.positions import OPENED, SEALED, Position
from eventlog.projection.dead_letters import DeadLetter, read_dead_letters
from eventlog.projection.sink_state import PartitionClaims
from eventlog.redis.server import Server
from projections.forwarding.forwarder import Forwarder
from projections.forwarding.sink import Sink
from projections.runner import Forwarding, ProjectionRunner
from tests.integration.forwarding.sinks import Recorder
from tests.integration.projections.facts import a_run, conversation, opened, write

PARTITIONS = 8
TENANT = "3f1c9d5e-8a55-4f0e-9a63-0d0f5b7f2a11"
TTL_S = 1000
LEASE_MS = 1500
GIVE_UP_S = 600.0
WAIT_S = 30.0
FINALS = 3


@asynccontextmanager
async def forwarding(
    log: Server, sink: Sink, consumer: str = "c1", *, lease_ms: int = LEASE_MS, give_up_s: float = GIVE_UP_S,
    with_words: bool = False,
) -> AsyncIterator[Forwarder]:  # fmt: skip
    """One process's forwarder at work."""
    runner = runner_of(log, sink, consumer, lease_ms=lease_ms, give_up_s=give_up_s, with_words=with_words)
    await runner.start()
    await runner.listening()
    try:
        yield runner.forwarders[0]
    finally:
        await runner.stop()


def runner_of(
    log: Server, sink: Sink, consumer: str = "c1", *, lease_ms: int = LEASE_MS, give_up_s: float = GIVE_UP_S,
    with_words: bool = False,
) -> ProjectionRunner:  # fmt: skip
    """The same, not started."""
    return ProjectionRunner(
        log, [], consumer, session_ttl_s=TTL_S,
        forwarding=Forwarding([sink], lease_ms=lease_ms, give_up_s=give_up_s, with_words=with_words),
    )  # fmt: skip


def recording(keys: RunKeys) -> tuple[Position, Fact]:
    """The first fact of a recorded file."""
    _, fact = opened(keys)
    assert isinstance(fact, SessionOpened)
    return OPENED, msgspec.structs.replace(fact, batch=Batch(user_id="ana"), tenant_id=TENANT)


async def conversations(log: Server, count: int, finals: int = 3) -> list[RunKeys]:
    """So many ended runs with their facts and notices."""
    runs = [a_run(log) for _ in range(count)]
    for keys in runs:
        await write(log, keys, conversation(keys, finals))
    return runs


def event_positions(finals: int) -> list[str]:
    """Positions of the events of an ended run."""
    return [*(f"{number + 1}-0" for number in range(finals)), str(SEALED)]


async def position_of(log: Server, keys: RunKeys, sink: str = "webhooks") -> str:
    """The sink's position of a run; empty for none."""
    found = await log.execute("GET", keys.projected(sink))
    return found.decode() if found else ""


async def dead_letters_of(log: Server, projection: str = "webhooks") -> list[DeadLetter]:
    """All dead letters of a projection."""
    return [dead_letter async for page in read_dead_letters(log, [projection]) for dead_letter in page]


async def holders(log: Server, sink: str = "webhooks") -> list[str]:
    """The consumer that forwards each partition, "" for none."""
    looked = await PartitionClaims(log, sink, "a looker", lease_ms=1).hold(
        dict.fromkeys(log.keys.partitions, False)
    )
    return [looked[partition] for partition in log.keys.partitions]


async def claim(log: Server, consumer: str, wanted: Sequence[int], lease_ms: int = 60_000) -> list[str]:
    """Have a consumer claim these partitions; the holders then."""
    partitions = [log.keys.partitions[number] for number in wanted]
    found = await PartitionClaims(log, "webhooks", consumer, lease_ms=lease_ms).hold(dict.fromkeys(partitions, True))
    return [found[partition] for partition in partitions]


async def is_at_position(
    log: Server, keys: RunKeys, position: str | Position = SEALED, *, sink: str = "webhooks"
) -> bool:
    """Whether the sink's position of a run is that one."""
    return await position_of(log, keys, sink) == str(position)


def all_sent(sink: Recorder, runs: Sequence[RunKeys], finals: int = FINALS) -> bool:
    """True once the sink has taken every event of these runs in order, each once."""
    assert [sink.of(keys.session_id) for keys in runs] == [event_positions(finals)] * len(runs)
    return True


def has_all(sink: Recorder, runs: Sequence[RunKeys]) -> bool:
    """True once it has taken every event of these runs, the first time in order; it may come again."""
    for keys in runs:
        assert list(dict.fromkeys(sink.of(keys.session_id))) == event_positions(FINALS)
    return True


async def has_dead_letters(log: Server, count: int) -> bool:
    """Whether so many dead letters exist."""
    return len(await dead_letters_of(log)) == count


async def shares(log: Server, expected: dict[str, int]) -> bool:
    """Whether these have so many partitions each."""
    found = await holders(log)
    return {name: found.count(name) for name in set(found)} == expected
