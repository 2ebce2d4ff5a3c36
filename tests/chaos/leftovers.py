"""State that must not remain once all has settled: claims, consumers, keys without a TTL, dead letters, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis

from eventlog import keys as names
from eventlog.keys import READ_MODELS, Keys
from tests.chaos.redis_process import PROBE, RedisClient

RESERVED_MS = 60_000
"""The longest that a reservation may count without renewal."""

TRIED = re.compile(r"Error: ((session|run) \S+ live could not be processed|Redis can't be used)")
"""The line that a quarantine trial prints; whether it led to a quarantine is checked apart."""

SUSPECTED = "run killed workers"
"""The log event with which a worker starts a quarantine trial."""

EXPLAINED = frozenset({"run set aside", "run quarantined"})
"""Error events that a poisoned session explains, the older name too, which an older tree logs."""


async def pending(client: RedisClient, keys: Keys) -> list[str]:
    """Unfinished runs, claims, unacked notices, and facts that a projection has not applied."""
    found = []
    for partition in keys.partitions:
        for member in await client.zrange(partition.index, 0, -1):
            run = keys.of_run(member.decode())
            last = await client.xrevrange(run.transcript, count=1)
            behind = [name for name in READ_MODELS if last and await client.get(run.projected(name)) != last[0][0]]
            found += [f"{name} is behind on {run.member}" for name in behind]
        found += [f"run {member.decode()} is not over" for member in await _hash(client, partition.entries)]
        for stream in (partition.sessions, partition.changes):
            for group in await _groups(client, stream):
                if group["pending"]:
                    found.append(f"{group['pending']} entries of {stream} pending in group {group['name'].decode()}")
    return found


async def dead_consumers(client: RedisClient, keys: Keys, living: Iterable[int]) -> list[str]:
    """Consumers without a live process."""
    numbers, found = {str(pid) for pid in living}, []
    for partition in keys.partitions:
        for stream in (partition.sessions, partition.changes):
            for group in await _groups(client, stream):
                consumers = await client.xinfo_consumers(stream, group["name"])
                found += [
                    f"consumer {one['name'].decode()} of {stream}" for one in consumers
                    if one["name"].decode().rsplit("-", 2)[1] not in numbers
                ]
    return found


async def keys_without_ttl(client: RedisClient, keys: Keys) -> list[str]:
    """Keys without a TTL that the deployment doesn't own."""
    owned = {names.partition_count(), names.reservations(), names.heartbeats(), PROBE}
    for one in keys.partitions:
        owned |= {
            one.sessions, one.entries, one.index, one.changes, one.walks, one.quarantined, one.open_runs, one.erased,
            one.ended_runs, one.tenant_runs(""),
        }  # fmt: skip
    found = [name.decode() async for name in client.scan_iter(count=1000)]
    ttls_s = [await client.ttl(name) for name in found]
    return [name for name, ttl_s in zip(found, ttls_s, strict=True) if ttl_s == -1 and name not in owned]


async def dead_letters(client: RedisClient, keys: Keys) -> list[str]:
    """Dead letters of the projections."""
    found = []
    for partition in keys.partitions:
        for projection in READ_MODELS:
            entries = await client.xrange(partition.dead_letters(projection))
            found += [f"dead letter of {projection}: {fields}" for _, fields in entries]
    return found


async def quarantined(client: RedisClient, keys: Keys) -> dict[str, str]:
    """Quarantined sessions, with their reasons."""
    found = {}
    for partition in keys.partitions:
        for _, fields in await client.xrange(partition.quarantined):
            found[fields[b"run"].decode().partition(" ")[0]] = fields[b"reason"].decode()
    return found


async def reservations(client: RedisClient, now_ms: int) -> list[str]:
    """Reservations that outlast what a crashed edge may keep."""
    entries = await client.zrange(names.reservations(), 0, -1, withscores=True)
    return [f"reservation of {name.decode()}" for name, until_ms in entries if until_ms > now_ms + RESERVED_MS]


def trials(logs: Sequence[Path]) -> set[str]:
    """Sessions that got a quarantine trial, as workers kept dying over them."""
    found = set()
    for path in logs:
        for line in path.read_text(errors="replace").splitlines():
            if SUSPECTED in line and line.startswith("{"):
                found.add(str(json.loads(line)["session_id"]))
    return found


def errors(logs: Sequence[Path]) -> list[str]:
    """Error records of the roles, and lines that are no log record, such as a traceback."""
    found = []
    for path in logs:
        for line in path.read_text(errors="replace").splitlines():
            if TRIED.match(line):
                continue
            if not line.startswith("{"):
                found.append(f"{path.name}: {line[:300]}")
                continue
            record = json.loads(line)
            if record.get("level") in {"error", "critical"} and record.get("event") not in EXPLAINED:
                text = f"{record.get('event')}: {record.get('error', '')}"
                found.append(f"{path.name}: {re.sub(r'[0-9a-f]{8}-[0-9a-f-]{27}', '<session>', text)[:300]}")
    return sorted(set(found))


async def _groups(client: RedisClient, stream: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = await client.xinfo_groups(stream)
    except redis.ResponseError:
        return []  # no such stream
    return found


async def _hash(client: RedisClient, key: str) -> list[bytes]:
    found: list[bytes] = await client.hkeys(key)
    return found
