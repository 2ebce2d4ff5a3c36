"""Erasing sessions: after it no key holds anything of them, and no late write can bring anything back.

One script deletes the session's keys in its partition and leaves its id in ``erased``. References to the session
elsewhere (dead letters, notices, quarantined runs, reservations) are deleted right after, and by `finish_erasures` once
more: a process that dies between the two, or wrote something meanwhile, leaves nothing for long.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventlog import keys as keys_module
from eventlog.keys import LIVE_RUN, READ_MODELS, SINKS, PartitionKeys, RunKeys, SessionKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.rebuild import rebuild_keys
from eventlog.redis.durability import DurableCalls
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

ERASED_RETENTION_MS = 3_600_000
"""An opening that is tried again for some seconds is what an erased id must refuse; an hour covers any stall of it."""

MAX_ERASED = 10_000
"""Per partition: 1 MB at worst, and three a second deleted for the whole hour before the oldest goes early."""

REPEATED_MS = 60_000
"""Erasures are repeated for so long: several sweeps, and longer than a call lies in a stalled Redis's queue."""

ENTRIES_PER_CALL = 1000
"""Under a millisecond of Redis's time."""


async def erase(
    server: Server, keys: SessionKeys, tenant_id: str, durable_calls: DurableCalls | None = None
) -> bool:
    """End and erase a session of `tenant_id`, all its runs; False if nothing of it existed.

    With `durable_calls` return once that has the durability asked for, so that no failover brings the session back.

    Raises:
        LogUnavailableError: if Redis can't be reached; it may have been erased nevertheless, and may be tried again.
    """
    deleted = await _erase(server, keys.partition, [keys.session_id], tenant_id)
    if durable_calls is not None and durable_calls.durability.replicas:
        await durable_calls.run_one(_call(keys.partition, keys.session_id, [keys.run()], tenant_id))
    await server.execute("ZREM", keys_module.reservations(), keys.session_id)
    await server.execute("ZREM", keys_module.tenant_reservations(tenant_id), keys.session_id)
    return deleted > 0


async def finish_erasures(server: Server) -> int:
    """Erase again the sessions erased lately, in case something was left or came late; return the deleted keys.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    partitions = server.keys.partitions
    since_ms = await server.time_ms() - REPEATED_MS
    answers = await server.execute_many(
        [("ZRANGEBYSCORE", partition.erased, since_ms, "+inf") for partition in partitions]
    )
    found = 0
    for partition, answer in zip(partitions, answers, strict=True):
        if isinstance(answer, Exception) or not answer:
            continue
        session_ids = [session_id.decode() for session_id in answer]
        found += await _erase(server, partition, session_ids, "")
        await server.execute("ZREM", keys_module.reservations(), *session_ids)
    return found


async def _erase(server: Server, partition: PartitionKeys, session_ids: Sequence[str], tenant_id: str) -> int:
    runs: dict[str, list[RunKeys]] = {session_id: [server.keys.of(session_id).run()] for session_id in session_ids}
    members = await server.run(script("find_runs"), [partition.index], session_ids)
    for run in map(server.keys.of_run, {member.decode() for member in members}):
        if run.run != LIVE_RUN:
            runs[run.session_id].append(run)
    queues = await _queues(server, [run for found in runs.values() for run in found if run.run != LIVE_RUN])
    calls = [_call(partition, session_id, found, tenant_id) for session_id, found in runs.items()]
    calls += [_call_of_queue(queue, run) for run, queue in queues]
    deleted: int = sum(await server.run_all(calls))
    letters = (*map(partition.dead_letters, (*READ_MODELS, *SINKS)), *map(partition.redriven, SINKS))
    for stream in (partition.changes, partition.quarantined, *letters):
        await _delete_references(server, stream, session_ids)
    return deleted


def _call(partition: PartitionKeys, session_id: str, runs: Sequence[RunKeys], tenant_id: str) -> Call:
    deleted = {key: None for run in runs for key in (*run.expiring(), *rebuild_keys(run))}
    return Call(
        script("erase_session"),
        [
            partition.erased, partition.index, partition.sessions, partition.entries, partition.open_runs,
            partition.ended_runs, partition.tenant_runs(tenant_id), partition.feed_channel, partition.archive_erasures,
            runs[0].session.session, *deleted,
        ],
        [session_id, MAX_ERASED, ERASED_RETENTION_MS, *(run.member for run in runs)],
    )  # fmt: skip


def _call_of_queue(name: str, run: RunKeys) -> Call:
    """Take a replay off its own queue, or end its claim in it."""
    call, queue = _call(run.partition, run.session_id, [run], ""), run.partition.queue(name)
    keys = [*call.keys[:2], queue.sessions, queue.entries, *call.keys[4:]]
    return Call(call.script, keys, call.arguments)


async def _queues(server: Server, replays: Sequence[RunKeys]) -> list[tuple[RunKeys, str]]:
    """Return the queue of each replay whose checkpoint names one; a checkpoint of a foreign type names none."""
    answers = await server.execute_many([("HGET", run.checkpoint, "queue") for run in replays])
    for answer in answers:
        if isinstance(answer, LogUnavailableError):
            raise answer
    return [(run, answer.decode()) for run, answer in zip(replays, answers, strict=True) if isinstance(answer, bytes)]


async def _delete_references(server: Server, stream: str, session_ids: Sequence[str]) -> None:
    first = "-"
    while first:
        answer = await server.run(script("delete_references"), [stream], [first, ENTRIES_PER_CALL, *session_ids])
        first = answer[0].decode()
