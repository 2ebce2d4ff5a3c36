"""From a run's facts in Redis to a message in SQS: forwarder, sink, bus, rule, queue."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from eventlog.events import Batch, SessionOpened
from eventlog.keys import RunKeys
from eventlog.positions import Position
from eventlog.projection.dead_letters import read_dead_letters
from eventlog.redis.server import Server, connect
from projections.eventbridge import EventBridge, EventBridgeSettings
from projections.eventbridge.bodies import find_fault
from projections.integration_events import Kind
from projections.runner import Forwarding, ProjectionRunner
from tests.integration.eventbridge.events import SETTINGS, provisioned, received
from tests.integration.eventbridge.scripted import Answer, Entries, ScriptedAws, refusal, results, taken
from tests.integration.projections.facts import a_run, ended, final, opened, write
from tests.support.waiting import eventually_async

TENANT = "0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001"
TTL_S = 1000
WAIT_S = 60.0  # pauses between tries grow to seconds, and the machine may be busy


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[Server]:
    """A connection to an empty Redis."""
    connected = await connect(redis_url)
    yield connected
    await connected.close()


@asynccontextmanager
async def forwarding(log: Server, settings: EventBridgeSettings) -> AsyncIterator[None]:
    """A process that forwards, and nothing else."""
    runner = ProjectionRunner(
        log, [], "c1", session_ttl_s=TTL_S, forwarding=Forwarding([EventBridge(settings)], lease_ms=2000)
    )
    await runner.start()
    try:
        yield
    finally:
        await runner.stop()


async def a_batch(log: Server, texts: Sequence[str]) -> RunKeys:
    """A recorded file in which that was said."""
    keys = a_run(log)
    position, start = opened(keys)
    assert isinstance(start, SessionOpened)
    start = msgspec.structs.replace(start, tenant_id=TENANT, batch=Batch(user_id="ana", account_id="a-1"))
    await write(log, keys, [(position, start), *(final(n, text) for n, text in enumerate(texts)), ended(len(texts))])
    return keys


async def is_forwarded(log: Server, runs: Sequence[RunKeys]) -> bool:
    """Whether the sink's position is past the end of each run."""
    stored = await log.execute_many([("GET", keys.projected("eventbridge")) for keys in runs])
    ends = [ended(0)[0]] * len(runs)
    return [isinstance(one, bytes) and Position.parse(one) for one in stored] == ends


async def dead_letters(log: Server) -> int:
    """The number of dead letters."""
    return sum([len(some) async for some in read_dead_letters(log, ["eventbridge"])])


async def test_a_finished_recording_reaches_the_queue(log: Server, emulator: str) -> None:
    """The end of a recorded file gives one event in the queue, a live session's gives none (BATCH-4, BATCH-5)."""
    found = provisioned(emulator)
    live = a_run(log)
    await write(log, live, [opened(live), final(0), ended(1)])
    batch = await a_batch(log, ["um the first words", "and the last."])
    async with forwarding(log, msgspec.structs.replace(SETTINGS, endpoint_url=emulator)):
        await eventually_async(lambda: is_forwarded(log, [batch, live]), WAIT_S)
    [event] = received(emulator, found.queue_url)
    assert find_fault(Kind.BATCH_COMPLETED, event["detail"]) == ""
    assert event["detail"]["interaction_id"] == batch.session_id
    assert (event["detail"]["user_id"], event["detail"]["account_id"]) == ("ana", "a-1")
    assert event["detail"]["data"]["raw_transcript"] == "um the first words and the last."
    assert await dead_letters(log) == 0


async def test_a_service_that_fails_and_throttles_loses_nothing(log: Server, scripted: ScriptedAws) -> None:
    """With a third of the entries failing and calls throttled, every event arrives with its stable id (BATCH-6)."""
    draw = random.Random(7)
    arrived: dict[str, set[str]] = {}

    def unreliable(entries: Entries) -> tuple[int, dict[str, object]]:
        if draw.random() < 0.2:
            return refusal("ThrottlingException", "Rate exceeded")
        lost = [draw.random() < 0.3 for _ in entries]
        for entry, is_lost in zip(entries, lost, strict=True):
            if not is_lost:
                arrived.setdefault(json.loads(entry["Detail"])["interaction_id"], set()).add(entry["Resources"][0])
        _, answer = taken(entries)
        failed = {"ErrorCode": "InternalFailure"}
        return results([failed if gone else one for one, gone in zip(answer["Entries"], lost, strict=True)])

    script: list[Answer] = [unreliable] * 10_000
    scripted.script = script
    runs = [await a_batch(log, [f"words of {number}"]) for number in range(100)]
    async with forwarding(log, msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)):
        await eventually_async(lambda: is_forwarded(log, runs), WAIT_S)
    assert arrived.keys() == {keys.session_id for keys in runs}
    assert {len(ids) for ids in arrived.values()} == {1}
    assert await dead_letters(log) == 0


async def test_a_rejected_entry_becomes_a_dead_letter(log: Server, scripted: ScriptedAws) -> None:
    """An event that is refused permanently goes to the dead letters, and those after it continue (BATCH-6)."""
    scripted.script = [lambda entries: results([{"ErrorCode": "MalformedDetail"} for _ in entries])]
    refused = await a_batch(log, ["first"])
    async with forwarding(log, msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)):
        await eventually_async(lambda: is_forwarded(log, [refused]), WAIT_S)
        later = await a_batch(log, ["second"])
        await eventually_async(lambda: is_forwarded(log, [later]), WAIT_S)
    [[dead_letter]] = [some async for some in read_dead_letters(log, ["eventbridge"])]
    assert dead_letter.reason == "EventBridge: MalformedDetail"
    assert len(scripted.requests) == 2
