"""Uploads as their decoder sees them: who may decode, what the container holds, and when its bytes are freed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.codec import decode_start, encode
from eventlog.events import SessionStarted, SourceDescribed
from eventlog.keys import SessionKeys
from eventlog.log import Appended, Claim, Code
from eventlog.positions import SEALED, Position
from eventlog.redis.scripts import script
from eventlog.redis.server import Server
from eventlog.telemetry import heartbeats

WORKER, RESTARTS = "worker", "restarts"
"""The role in a worker's heartbeats, and their field that says that it can go on with an upload in its middle."""

ALIVE_MS = 15_000
"""Since its last heartbeat a worker may have paused, and yet live: five beats."""

_LATER_EPOCH = 2
"""Of a container's audio: nobody but a decoder ever raises it."""


class Begun(NamedTuple):
    """The answer to `Uploads.begin`; as `eventlog.log.Opened`, and what an upload without its first bytes needs.

    Attributes:
        code: OK, LOST, GONE or SEALED.
        epoch: Of the audio, under which the caller appends.
        head: Of the audio.
        start: The session's start.
        restart: What an earlier holder left to begin again with; empty if every byte is there.
        first_bytes: The container's, as many as that needs.
    """

    code: Code
    epoch: int = 0
    head: Position = Position(0, 0)
    start: SessionStarted | None = None
    restart: bytes = b""
    first_bytes: bytes = b""


class Freed(NamedTuple):
    """What may go, once `restart` is stored.

    Attributes:
        restart: How a decoder begins again, as JSON.
        from_bytes: The first byte that it needs behind the container's beginning.
        first_bytes: That beginning; empty if it was stored before.
    """

    restart: bytes
    from_bytes: int
    first_bytes: bytes = b""


class Uploads:
    """What a claim holder does with an upload beside reading it; every method may raise `LogUnavailableError`."""

    def __init__(self, server: Server, *, ahead_bytes: int = 64 << 20, session_ttl_s: int = 86_400) -> None:
        """Use `server`; an upload may be `ahead_bytes` long before its decoder has taken any of it."""
        self._server = server
        self._ahead_bytes = ahead_bytes
        self._ttl_s = session_ttl_s

    async def begin(self, claim: Claim) -> Begun:
        """Become the only one that appends to the session's audio: its epoch, head and start; LOST, GONE or SEALED.

        Made again after a lost answer it supersedes only the caller itself.
        """
        keys = claim.keys.session
        code, epoch, head, start, *rest = await self._server.run(
            script("begin_decoding"),
            [claim.keys.partition.sessions, keys.session, keys.upload.session, keys.upload.head],
            [claim.entry_id, claim.consumer, claim.deliveries, self._ahead_bytes],
        )
        return Begun(Code(code), epoch, Position.parse(head), decode_start(start) if start else None, *rest)

    async def describe(self, keys: SessionKeys, epoch: int, start: SessionStarted, source: SourceDescribed) -> Appended:
        """Append `source` as the audio's second entry, and replace the session's start by `start`, which knows it.

        MISPLACED with a head past the start means that it is there already.
        """
        code, current, head = await self._server.run(
            script("describe_source"),
            [keys.session, keys.audio, keys.upload.session],
            [epoch, encode(source), encode(start)],
        )
        return Appended(Code(code), current, Position.parse(head))

    async def go_on(self, claim: Claim, credit_bytes: int, freed: Freed | None = None) -> Code:
        """Let the sender append up to `credit_bytes`, and free what is `freed`: OK, LOST or GONE."""
        upload = claim.keys.session.upload
        record, below, first = b"", Position(0, 0), b""
        if freed is not None:
            # An entry's id is the offset after it: the one that holds the first byte wanted is the first beyond.
            record, below, first = freed.restart, Position(freed.from_bytes + 1, 0), freed.first_bytes
        return Code(
            await self._server.run(
                script("trim_upload"),
                [claim.keys.partition.sessions, upload.session, upload.audio, upload.head],
                [
                    claim.entry_id, claim.consumer, claim.deliveries, credit_bytes, record, str(below), first,
                    self._ttl_s,
                ],
            )
        )  # fmt: skip

    async def may_be_trimmed(self) -> bool:
        """Whether every worker that lives could go on with an upload whose first bytes are gone; older ones can't."""
        return all(
            one.payload.get(RESTARTS)
            for one in await heartbeats.read_all(self._server)
            if one.role == WORKER and one.age_ms < ALIVE_MS
        )

    async def free(self, keys: SessionKeys) -> None:
        """Refuse whatever still comes to the upload of a session that has ended, and free its bytes; harmless twice."""
        upload = keys.upload
        await self._server.run(script("free_upload"), [upload.session, upload.audio, upload.head], [])


async def credits_of(server: Server, session_ids: Sequence[str], ahead_bytes: int) -> list[int]:
    """Up to which byte each session's upload may be appended to; `ahead_bytes` until somebody decodes it.

    Without bound where nobody will ever say more: it has ended, or a worker of an older version decodes it.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    sessions = [server.keys.of(session_id) for session_id in session_ids]
    commands = [("HMGET", keys.upload.session, "credit_bytes", "guard") for keys in sessions]
    commands += [("HMGET", keys.session, "guard", "guard") for keys in sessions]
    answers = await server.execute_many(commands)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [
        _credit(upload, audio, ahead_bytes)
        for upload, audio in zip(answers[: len(sessions)], answers[len(sessions) :], strict=True)
    ]


def _credit(upload: Sequence[bytes | None], audio: Sequence[bytes | None], ahead_bytes: int) -> int:
    granted, guard = upload
    if guard is None or guard.endswith(b" " + str(SEALED).encode()):
        return sys.maxsize
    if granted is not None:
        return int(granted)
    is_decoded = audio[0] is not None and int(audio[0].partition(b" ")[0]) >= _LATER_EPOCH
    return sys.maxsize if is_decoded else ahead_bytes
