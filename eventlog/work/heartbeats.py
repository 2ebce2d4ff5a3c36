"""Heartbeats: which processes are alive and what they do, by Redis's own clock."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from eventlog.keys import heartbeats
from eventlog.redis.scripts import script
from eventlog.redis.server import Server
from eventlog.telemetry import error_counts

EXPIRES_AFTER_MS = 300_000
"""Dead processes stay listed for five minutes: long enough to be seen, short enough not to pile up over restarts."""

MAX_PAYLOAD_BYTES = 4096
"""A heartbeat holds a few numbers; more would make every read of all of them dear."""

ERRORS = "errors_5min"
"""Field of every heartbeat: errors that its process logged in the last five minutes."""


class Heartbeat(NamedTuple):
    """The last heartbeat of one role in one process."""

    role: str
    consumer: str
    age_ms: int
    payload: dict[str, Any]


def process_name() -> str:
    """Return a unique name for this process's consumers and heartbeats, which shows an operator where it runs."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def write(server: Server, role: str, consumer: str, payload: Mapping[str, Any]) -> None:
    """Record that `consumer` is alive as `role` (a word without spaces), its payload, and how many errors it logged.

    Raises:
        ValueError: if the payload is too large.
        LogUnavailableError: if Redis can't be reached.
    """
    data = msgspec.json.encode({**payload, ERRORS: error_counts.PROCESS_ERRORS.recent()})
    if len(data) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a heartbeat of {len(data)} bytes; at most {MAX_PAYLOAD_BYTES} are taken")
    await server.run(script("record_heartbeat"), [heartbeats()], [f"{role} {consumer}", data, EXPIRES_AFTER_MS])


async def read_all(server: Server) -> list[Heartbeat]:
    """Return the heartbeats of all roles that gave one lately, the latest first.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    answer = await server.run(script("record_heartbeat"), [heartbeats()], ["", "", EXPIRES_AFTER_MS])
    found = [_heartbeat(*one) for one in answer]
    return sorted(found, key=lambda heartbeat: heartbeat.age_ms)


def _heartbeat(field: bytes, age_ms: int, payload: bytes) -> Heartbeat:
    role, _, consumer = field.decode().partition(" ")
    return Heartbeat(role, consumer, age_ms, msgspec.json.decode(payload))
