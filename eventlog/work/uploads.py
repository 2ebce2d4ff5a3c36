"""Uploads on the decoder's side: the right to decode, the container's description, credit, and freeing its bytes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.codec import decode_start, encode
from eventlog.events import SessionStarted, SourceDescribed
from eventlog.keys import SessionKeys
from eventlog.log import Appended, Claim, Code, LogUnavailableError
from eventlog.positions import SEALED, Position
from eventlog.redis.scripts import script
from eventlog.redis.server import Server
from eventlog.work import heartbeats

WORKER, RESTARTS = "worker", "restarts"
"""The role in a worker's heartbeats, and their field that says that it can resume an upload in its middle."""

ALIVE_MS = 15_000
"""Since its last heartbeat a worker may have paused, and yet live: five heartbeats."""

_LATER_EPOCH = 2
"""Of a container's audio: only a decoder ever raises it."""


class DecodingStart(NamedTuple):
    """The answer to `Uploads.start_decoding`: as `eventlog.log.Opened`, and the restart point of a trimmed upload.

    Attributes:
        code: OK, LOST, GONE or SEALED.
        epoch: Of the audio, under which the caller appends.
        head: Of the audio.
        start: The session's start.
        restart: The restart point that an earlier holder stored; empty if the upload still has every byte.
        first_bytes: The container's, as many as that needs.
    """

    code: Code
    epoch: int = 0
    head: Position = Position(0, 0)
    start: SessionStarted | None = None
    restart: bytes = b""
    first_bytes: bytes = b""


class TrimPoint(NamedTuple):
    """A restart point, before which an upload's bytes may be freed once it is stored.

    Attributes:
        restart: How a decoder restarts, as JSON.
        from_bytes: The first byte that it needs behind the container's beginning.
        first_bytes: That beginning; empty if it was stored before.
    """

    restart: bytes
    from_bytes: int
    first_bytes: bytes = b""


class Uploads:
    """A claim holder's operations on an upload, reading apart; every method may raise `LogUnavailableError`."""

    def __init__(self, server: Server, *, ahead_bytes: int = 64 << 20, session_ttl_s: int = 86_400) -> None:
        """Use `server`; an upload may be `ahead_bytes` long before its decoder has taken any of it."""
        self._server = server
        self._ahead_bytes = ahead_bytes
        self._ttl_s = session_ttl_s

    async def start_decoding(self, claim: Claim) -> DecodingStart:
        """Become the only appender of the session's audio; return its epoch, head and start, or LOST, GONE or SEALED.

        Made again after a lost answer it supersedes only the caller itself.
        """
        keys = claim.keys.session
        code, epoch, head, start, *rest = await self._server.run(
            script("begin_decoding"),
            [claim.keys.partition.sessions, keys.session, keys.upload.session, keys.upload.head],
            [claim.entry_id, claim.consumer, claim.deliveries, self._ahead_bytes],
        )
        return DecodingStart(Code(code), epoch, Position.parse(head), decode_start(start) if start else None, *rest)

    async def describe(self, keys: SessionKeys, epoch: int, start: SessionStarted, source: SourceDescribed) -> Appended:
        """Append `source` as the audio's second entry, and replace the session's start by `start`, which knows it.

        MISPLACED with a head past the start means that the log has it already.
        """
        code, current, head = await self._server.run(
            script("describe_source"),
            [keys.session, keys.audio, keys.upload.session],
            [epoch, encode(source), encode(start)],
        )
        return Appended(Code(code), current, Position.parse(head))

    async def grant_credit(self, claim: Claim, credit_bytes: int, trim: TrimPoint | None = None) -> Code:
        """Let the sender append up to `credit_bytes`, and free the bytes before `trim`: OK, LOST or GONE."""
        upload = claim.keys.session.upload
        record, below, first = b"", Position(0, 0), b""
        if trim is not None:
            # An entry's id is the offset after it: the one that holds the first byte wanted is the first beyond.
            record, below, first = trim.restart, Position(trim.from_bytes + 1, 0), trim.first_bytes
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
        """Whether every live worker could resume an upload whose first bytes are freed; older versions can't."""
        return all(
            one.payload.get(RESTARTS)
            for one in await heartbeats.read_all(self._server)
            if one.role == WORKER and one.age_ms < ALIVE_MS
        )

    async def free(self, keys: SessionKeys) -> None:
        """Refuse later appends to the upload of a session that has ended, and free its bytes; harmless twice."""
        upload = keys.upload
        await self._server.run(script("free_upload"), [upload.session, upload.audio, upload.head], [])


async def read_credits(server: Server, session_ids: Sequence[str], ahead_bytes: int) -> list[int]:
    """Return up to which byte each session's upload may be appended to; `ahead_bytes` until a worker decodes it.

    Unlimited where no more credit will come: it has ended, or a worker of an older version decodes it. Also where its
    keys are broken, so that this read of many fails for none: the append reports it.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    sessions = [server.keys.of(session_id) for session_id in session_ids]
    commands = [("HMGET", keys.upload.session, "credit_bytes", "guard") for keys in sessions]
    commands += [("HMGET", keys.session, "guard", "guard") for keys in sessions]
    answers = await server.execute_many(commands)
    for answer in answers:
        if isinstance(answer, LogUnavailableError):
            raise answer
    return [
        _credit(upload, audio, ahead_bytes)
        for upload, audio in zip(answers[: len(sessions)], answers[len(sessions) :], strict=True)
    ]


def _credit(
    upload: Sequence[bytes | None] | Exception, audio: Sequence[bytes | None] | Exception, ahead_bytes: int
) -> int:
    if isinstance(upload, Exception) or isinstance(audio, Exception):
        return sys.maxsize
    granted, guard = upload
    if guard is None or guard.endswith(b" " + str(SEALED).encode()):
        return sys.maxsize
    if granted is not None:
        return int(granted)
    is_decoded = audio[0] is not None and int(audio[0].partition(b" ")[0]) >= _LATER_EPOCH
    return sys.maxsize if is_decoded else ahead_bytes
