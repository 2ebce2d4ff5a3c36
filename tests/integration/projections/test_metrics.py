"""The metrics of a process of projections."""

from eventlog.redis.server import Server
from eventlog.telemetry.metering import Meter
from projections.lists import Lists
from projections.metrics import ProjectionCollector
from projections.runner import ProjectionRunner
from tests.integration.projections.facts import a_run, conversation, write
from tests.support.metric_samples import Samples, of, samples
from tests.support.waiting import eventually_async

TTL_S = 1000
CONVERSATIONS = 3
FACTS = 5  # opened, three finals, ended


def scraped(meter: Meter) -> Samples:
    """The metrics now."""
    return samples(meter.exposition("")[0].decode())


async def test_applied_facts_are_counted_and_timed(log: Server) -> None:
    """Facts that a projection applies are counted, and its rounds are timed (OPS-3)."""
    meter = Meter()
    runner = ProjectionRunner(log, [Lists()], "c1", session_ttl_s=TTL_S, meter=meter)
    await runner.start()
    for _ in range(CONVERSATIONS):
        keys = a_run(log)
        await write(log, keys, conversation(keys, 3))
    total = "stenolog_projection_applied_facts_total"
    await eventually_async(lambda: of(scraped(meter), total, projection="lists") == CONVERSATIONS * FACTS)
    await runner.stop()
    assert of(scraped(meter), "stenolog_projection_apply_duration_seconds_count", projection="lists") > 0
    assert of(scraped(meter), "stenolog_projection_dead_lettered_facts_total", projection="lists") == 0


async def test_pending_notices_are_counted(log: Server) -> None:
    """Notices that a projection hasn't acked are its lag, delivered or not, and none is left once it has (OPS-3)."""
    runner = ProjectionRunner(log, [Lists()], "c1", session_ttl_s=TTL_S)
    await runner.loops[0].look(list(log.keys.partitions), sweeping=True)  # makes its groups
    collector = ProjectionCollector(log, runner.loops)
    assert await collector.pending_notices() == {"lists": 0}
    for _ in range(CONVERSATIONS):
        keys = a_run(log)
        await write(log, keys, conversation(keys, 3))
    waiting = await collector.pending_notices()
    assert waiting["lists"] >= CONVERSATIONS
    await runner.loops[0].look(list(log.keys.partitions), sweeping=False)
    assert await collector.pending_notices() == waiting  # delivered, but not acked
    await runner.loops[0].look(list(log.keys.partitions), sweeping=True)
    assert await collector.pending_notices() == {"lists": 0}
