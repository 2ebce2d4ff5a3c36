"""Uploads as their decoder sees them: who may decode, what the container holds, and when its bytes are freed."""

from __future__ import annotations

from eventlog.codec import decode_start, encode
from eventlog.events import SessionStarted, SourceDescribed
from eventlog.keys import SessionKeys
from eventlog.log import Appended, Claim, Code, Opened
from eventlog.positions import Position
from eventlog.scripts import script
from eventlog.server import Server


class Uploads:
    """What a claim holder does with an upload beside reading it; every method may raise `LogUnavailableError`."""

    def __init__(self, server: Server) -> None:
        """Use `server`."""
        self._server = server

    async def begin(self, claim: Claim) -> Opened:
        """Become the only one that appends to the session's audio: its epoch, head and start; LOST, GONE or SEALED.

        Made again after a lost answer it supersedes only the caller itself.
        """
        code, epoch, head, start = await self._server.run(
            script("begin_decoding"),
            [claim.keys.partition.sessions, claim.keys.session.session],
            [claim.entry_id, claim.consumer, claim.deliveries],
        )
        return Opened(Code(code), epoch, Position.parse(head), decode_start(start) if start else None)

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

    async def free(self, keys: SessionKeys) -> None:
        """Refuse whatever still comes to the upload of a session that has ended, and free its bytes; harmless twice."""
        upload = keys.upload
        await self._server.run(script("free_upload"), [upload.session, upload.audio], [])
