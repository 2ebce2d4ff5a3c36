"""Erasing sessions: after it no key holds anything of them, and nothing that comes late can bring anything back.

One script deletes what the session has in its partition and leaves its id in ``erased``. What merely names the session
elsewhere (dead letters, notices, what was set aside, reservations) is dropped right after, and by `finish_erasures`
once more: whoever dies between the two, or wrote something meanwhile, leaves nothing for long.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventlog import keys as keys_module
from eventlog.keys import LIVE_RUN, READ_MODELS, SINKS, PartitionKeys, RunKeys, SessionKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.rebuild import rebuild_keys
from eventlog.redis.durability import Confirming
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

ERASED_KEPT_MS = 3_600_000
"""An opening that is tried again for some seconds is what an erased id must refuse; an hour covers any stall of it."""

ERASED_MOST = 10_000
"""Per partition: 1 MB at worst, and three a second deleted for the whole hour before the oldest goes early."""

FINISHED_MS = 60_000
"""Erasures are finished again for so long: several sweeps, and longer than a call lies in a stalled Redis's queue."""

ENTRIES_PER_LOOK = 1000
"""Under a millisecond of Redis's time."""


async def erase(
    server: Server, keys: SessionKeys, tenant_id: str, confirming: Confirming | None = None
) -> bool:
    """End and erase a session of `tenant_id`, all its runs; False if there was nothing of it.

    With `confirming` not before that has the durability asked for, so that no failover brings it back.

    Raises:
        LogUnavailableError: if Redis can't be reached; it may have been erased nevertheless, and may be tried again.
    """
    deleted = await _erase(server, keys.partition, [keys.session_id], tenant_id)
    if confirming is not None and confirming.asked.replicas:
        await confirming.run_one(_call(keys.partition, keys.session_id, [keys.run()], tenant_id))
    await server.execute("ZREM", keys_module.reservations(), keys.session_id)
    await server.execute("ZREM", keys_module.tenant_reservations(tenant_id), keys.session_id)
    return deleted > 0


async def finish_erasures(server: Server) -> int:
    """Erase again what was erased lately, in case something was left or came late; returns how many keys that found.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    partitions = server.keys.partitions
    since_ms = await server.time_ms() - FINISHED_MS
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
    deleted = 0
    for answer in await server.run_many(calls):
        if isinstance(answer, LogUnavailableError):
            raise answer
        deleted += answer
    letters = (*map(partition.dead_letters, (*READ_MODELS, *SINKS)), *map(partition.redriven, SINKS))
    for stream in (partition.changes, partition.quarantined, *letters):
        await _drop_mentions(server, stream, session_ids)
    return deleted


def _call(partition: PartitionKeys, session_id: str, runs: Sequence[RunKeys], tenant_id: str) -> Call:
    doomed = {key: None for run in runs for key in (*run.expiring(), *rebuild_keys(run))}
    return Call(
        script("erase_session"),
        [
            partition.erased, partition.index, partition.sessions, partition.entries, partition.open_runs,
            partition.ended_runs, partition.tenant_runs(tenant_id), partition.feed_channel, partition.archive_erasures,
            runs[0].session.session, *doomed,
        ],
        [session_id, ERASED_MOST, ERASED_KEPT_MS, *(run.member for run in runs)],
    )  # fmt: skip


def _call_of_queue(name: str, run: RunKeys) -> Call:
    """Takes a replay off its own queue, or ends its claim there."""
    call, offers = _call(run.partition, run.session_id, [run], ""), run.partition.queue(name)
    keys = [*call.keys[:2], offers.sessions, offers.entries, *call.keys[4:]]
    return Call(call.script, keys, call.arguments)


async def _queues(server: Server, replays: Sequence[RunKeys]) -> list[tuple[RunKeys, str]]:
    answers = await server.execute_many([("HGET", run.checkpoint, "queue") for run in replays])
    found = []
    for run, answer in zip(replays, answers, strict=True):
        if isinstance(answer, LogUnavailableError):
            raise answer
        if isinstance(answer, bytes):
            found.append((run, answer.decode()))
    return found


async def _drop_mentions(server: Server, stream: str, session_ids: Sequence[str]) -> None:
    place = "-"
    while place:
        answer = await server.run(script("drop_mentions"), [stream], [place, ENTRIES_PER_LOOK, *session_ids])
        place = answer[0].decode()
