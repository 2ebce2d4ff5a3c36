"""What must not be left when all has settled: claims, consumers, keys without end, letters, processes, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis

from eventlog import keys as names
from eventlog.keys import READ_MODELS, Keys
from tests.chaos.store import PROBE, Client

RESERVED_MS = 60_000
"""The longest that a reservation may count without being renewed."""

TRIED = re.compile(r"Error: (run \S+ live could not be processed|Redis can't be used)")
"""What a trial says of itself in a line; whether anybody was convicted by it is looked at apart."""

SUSPECTED = "run killed workers"
"""How a worker's log says that it tries a session alone."""

EXPLAINED = frozenset({"run quarantined"})
"""Errors that a poisoned session is told by."""


async def pending(client: Client, keys: Keys) -> list[str]:
    """Runs that are not over, claims, notices that no projection has acked, and facts that one has not applied."""
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


async def ghosts(client: Client, keys: Keys, living: Iterable[int]) -> list[str]:
    """Consumers that are no living process."""
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


async def unowned(client: Client, keys: Keys) -> list[str]:
    """Keys that nobody would ever delete."""
    owned = {names.partition_count(), names.reservations(), names.heartbeats(), PROBE}
    for one in keys.partitions:
        owned |= {
            one.sessions, one.entries, one.index, one.changes, one.walks, one.quarantined, one.open_runs, one.erased,
            one.ended_runs, one.tenant_runs(""),
        }  # fmt: skip
    found = [name.decode() async for name in client.scan_iter(count=1000)]
    lives = [await client.ttl(name) for name in found]
    return [name for name, life in zip(found, lives, strict=True) if life == -1 and name not in owned]


async def letters(client: Client, keys: Keys) -> list[str]:
    """Facts that no projection could apply."""
    found = []
    for partition in keys.partitions:
        for projection in READ_MODELS:
            entries = await client.xrange(partition.dead_letters(projection))
            found += [f"dead letter of {projection}: {fields}" for _, fields in entries]
    return found


async def set_aside(client: Client, keys: Keys) -> dict[str, str]:
    """Sessions set aside, with their reasons."""
    found = {}
    for partition in keys.partitions:
        for _, fields in await client.xrange(partition.quarantined):
            found[fields[b"run"].decode().partition(" ")[0]] = fields[b"reason"].decode()
    return found


async def reservations(client: Client, now_ms: int) -> list[str]:
    """Places that stay taken for longer than a crashed edge may keep them."""
    entries = await client.zrange(names.reservations(), 0, -1, withscores=True)
    return [f"reservation of {name.decode()}" for name, until_ms in entries if until_ms > now_ms + RESERVED_MS]


def tried_alone(logs: Sequence[Path]) -> set[str]:
    """Sessions that had to be tried in a process of their own, since workers kept dying over them."""
    found = set()
    for path in logs:
        for line in path.read_text(errors="replace").splitlines():
            if SUSPECTED in line and line.startswith("{"):
                found.add(str(json.loads(line)["session_id"]))
    return found


def errors(logs: Sequence[Path]) -> list[str]:
    """What roles logged as errors, and whatever is no log line at all, such as a traceback."""
    found = []
    for path in logs:
        for line in path.read_text(errors="replace").splitlines():
            if TRIED.match(line):
                continue
            if not line.startswith("{"):
                found.append(f"{path.name}: {line[:300]}")
                continue
            told = json.loads(line)
            if told.get("level") in {"error", "critical"} and told.get("event") not in EXPLAINED:
                text = f"{told.get('event')}: {told.get('error', '')}"
                found.append(f"{path.name}: {re.sub(r'[0-9a-f]{8}-[0-9a-f-]{27}', '<session>', text)[:300]}")
    return sorted(set(found))


async def _groups(client: Client, stream: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = await client.xinfo_groups(stream)
    except redis.ResponseError:
        return []  # no such stream
    return found


async def _hash(client: Client, key: str) -> list[bytes]:
    found: list[bytes] = await client.hkeys(key)
    return found
