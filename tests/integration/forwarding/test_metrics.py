"""What a process of forwarders counts and says of itself."""

from eventlog.redis.server import Server
from eventlog.telemetry.metering import Meter
from eventlog.work import heartbeats
from projections.forwarding.sink import SENT, Outcome, Result
from projections.runner import Forwarding, ProjectionRunner
from tests.integration.forwarding.forwarders import FINALS, LEASE_MS, PARTITIONS, TTL_S, WAIT_S, conversations
from tests.integration.forwarding.sinks import Failing, Recorder, position
from tests.support.scraping import of, samples
from tests.support.waiting import eventually_async


async def test_a_forwarder_is_measured(single: Server) -> None:
    """Events that were taken, retried and dead-lettered are counted, and the forwarder's state is measured (OPS-3)."""
    once = Failing(1)
    sink = Recorder(
        lambda event: Result(Outcome.REJECTED, "refused") if position(event) == "1-0"
        else once(event) if position(event) == "2-0" else SENT
    )  # fmt: skip
    meter = Meter()
    runner = ProjectionRunner(
        single, [], "c1", session_ttl_s=TTL_S, meter=meter, forwarding=Forwarding([sink], lease_ms=LEASE_MS)
    )
    await runner.start()
    await conversations(single, 5)

    def value(name: str) -> float:
        return of(samples(meter.exposition("")[0].decode()), f"stenolog_{name}", sink="webhooks")

    await eventually_async(lambda: value("sink_forwarded_events_total") == 5 * FINALS, WAIT_S)
    assert (value("sink_retries_total"), value("sink_dead_letters_total")) == (5, 5)
    await eventually_async(lambda: value("sink_partitions") == PARTITIONS, WAIT_S)
    await eventually_async(lambda: value("sink_waiting") == value("sink_failing_seconds") == 0, WAIT_S)

    async def is_reported() -> bool:
        [beat] = [one for one in await heartbeats.read_all(single) if one.role == "projection.webhooks"]
        return bool(beat.payload["forwarded"] == 5 * FINALS and beat.payload["dead_lettered"] == 5)

    await eventually_async(is_reported, WAIT_S)
    await runner.stop()
