"""How many functions one event passes on its way from its facts to EventBridge.

Counted is every function that ran because of the event: those that the fact, the event made of it, or its result is
handed to, and all that these call. Not counted are names of keys, positions and partitions, the Redis client below the
log, instruments and log fields, properties and predicates without arguments, and nested closures. The cleaning of the
text counts as one function (`clean`), the codec as one (`decode_fact`).
"""

import re
from pkgutil import resolve_name

import msgspec
import pytest

from eventlog.keys import RunKeys
from eventlog.projection.projection_log import ProjectionLog
from eventlog.redis.server import Server, connect
from projections.eventbridge import EventBridge
from projections.forwarding import notice_reader, partition_assignment
from projections.forwarding.forwarder import Forwarder, Terms
from tests.integration.eventbridge.conftest import _moto, credentials, emulator, no_credentials  # noqa: F401
from tests.integration.eventbridge.events import SETTINGS, provisioned, received
from tests.integration.forwarding.forwarders import PARTITIONS, TTL_S, is_at_position, recording
from tests.integration.projections.facts import a_run, checked, ended, final, notice, write
from tests.support.call_path import CallPath
from tests.support.waiting import eventually_async, lasting

MOST_FUNCTIONS = 30
LEASE_MS = 3_600_000
NEVER_S = 3_600.0
IDLE_S = 4.0  # a sweep and a rebalance fall into it

PATH = """
projections.forwarding.notice_reader:NoticeReader.wake
projections.forwarding.forwarder:Forwarder._round
projections.forwarding.notice_reader:NoticeReader.read
eventlog.projection.projection_log:ProjectionLog.read_notices
projections.forwarding.run_scheduler:RunScheduler.add
projections.forwarding.batch_reader:BatchReader.pull
projections.forwarding.run_scheduler:RunScheduler.take
eventlog.projection.projection_log:ProjectionLog.pull
eventlog.codec:decode_fact
projections.forwarding.event_batches:make_batch
projections.integration_events:batch_kinds
projections.forwarding.forwarder:Forwarder._start_deliveries
projections.forwarding.delivery:deliver
projections.integration_events:make_event
eventlog.readmodel.statuses:format_iso
projections.public_json:to_listed_final
projections.cleaning:clean
projections.integration_events:event_id
projections.eventbridge.sink:EventBridge.send
projections.eventbridge.bodies:find_fault
projections.eventbridge.entries:make_entry
projections.eventbridge.entries:split_requests
projections.eventbridge.delivery:Delivery.put
projections.eventbridge.threads:in_daemon_thread
projections.eventbridge.responses:read_result
projections.forwarding.forwarder:Forwarder._judge_results
projections.forwarding.event_batches:Judge.judge
projections.forwarding.progress_writer:ProgressWriter.write
eventlog.projection.projection_log:ProjectionLog.apply
projections.forwarding.run_scheduler:RunScheduler.finish
"""
"""The way of an event, in the order of the first calls."""

NOT_COUNTED = re.compile(
    r"eventlog\.(keys|positions|partitions):.*"
    r"|eventlog\.redis\.(server|cluster|packing|failures|scripts|isolated_calls|durability):.*"
    r"|eventlog\.telemetry\..*|.*metrics.*|.*:(SinkStats\..*|log_fields)"
    r"|.*\.<locals>\..*|.*\.__len__"
    r"|projections\.cleaning(?!\.__init__:clean$)[.:].*|eventlog\.codec:(?!decode_fact$).*"
)


def counted(functions: list[str]) -> list[str]:
    """Those that count, see above."""
    found = [one.replace(".__init__:", ":") for one in functions if not NOT_COUNTED.fullmatch(one)]
    return [one for one in found if not isinstance(resolve_name(one), property)]


async def write_recording(log: Server) -> RunKeys:
    """The facts of a finished recording, without a notice."""
    keys = a_run(log)
    await write(log, keys, [recording(keys), final(0), ended(1)], with_notice=False)
    return keys


async def test_one_event_passes_few_functions(
    redis_url: str, emulator: str, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    """From its notice until its position is written, an event for EventBridge passes these functions, at most 30."""
    queue = provisioned(emulator).queue_url
    path = CallPath()
    path.watch_threads()
    log = await connect(redis_url, partitions=PARTITIONS)
    sink = EventBridge(msgspec.structs.replace(SETTINGS, endpoint_url=emulator))
    forwarder = Forwarder(
        sink, ProjectionLog(log, sink.name, "c1", session_ttl_s=TTL_S), Terms(LEASE_MS, 600.0, TTL_S)
    )

    async def forward(keys: RunKeys) -> None:
        checked(await log.execute_many(notice(keys)))
        forwarder.notices.wake(keys.partition.number)
        await eventually_async(lambda: is_at_position(log, keys, sink=sink.name))
        await lasting(0.3)  # for what follows the answer

    try:
        await forwarder.start()
        await forward(await write_recording(log))  # what happens once happens before anything counts
        keys = await write_recording(log)
        monkeypatch.setattr(notice_reader, "SWEEP_S", NEVER_S)
        monkeypatch.setattr(partition_assignment, "MOST_PAUSE_S", NEVER_S)
        with path.idle():
            await lasting(IDLE_S)
        with path.event():
            await forward(keys)
    finally:
        path.unwatch()
        await forwarder.stop()
        await log.close()
    assert len(received(emulator, queue)) == 2
    assert counted(path.functions()) == PATH.split()
    assert len(PATH.split()) <= MOST_FUNCTIONS
