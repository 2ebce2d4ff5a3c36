"""The real-time feed: the messages on a partition's channel, and the Stream by which a listener catches up.

A run's feed is a Stream whose ids are those of the facts; its channel only makes it quick. Each event message names the
id before it, so a listener that missed one sees the gap and reads the Stream.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from eventlog.positions import SEALED, Position

if TYPE_CHECKING:
    from eventlog.keys import RunKeys
    from eventlog.redis.server import Server


class FeedKind(enum.StrEnum):
    """The kind of a message on a feed channel."""

    EVENT = "e"
    """In the feed Stream too, under `position`."""
    PARTIAL = "p"
    """Of the open utterance; `position` is the last final's when it was made, older ones are to be dropped."""
    SPEECH = "b"
    """An utterance has begun; `body` is the message for clients that asked for it. Never stored."""
    DOCUMENT = "d"
    """The stitched transcript is written."""
    SUPERSEDED = "s"
    """A newer connection took the session; `body` is its epoch."""
    ANSWER = "a"
    """The answer to a `ProvisionalRequested`; `body` is a `ProvisionalAnswer`."""
    STATUS = "t"
    """In the status Stream too, under `position`, its number there."""
    GONE = "g"
    """The session was erased; no message follows."""
    PROMOTED = "r"
    """Another run of the session is promoted now; `body` names it."""


class FeedMessage(msgspec.Struct, array_like=True, frozen=True):
    """One message on a partition's feed channel, as a JSON array."""

    kind: str
    member: str
    """``<session> <run>``."""
    position: str = ""
    previous: str = ""
    body: str = ""
    """The JSON object that clients get, as text."""


class OpenUtterance(msgspec.Struct, frozen=True, kw_only=True):
    """An utterance that has not ended yet, as it would read now; times in seconds of audio."""

    utterance: int
    text: str
    start: float
    end: float
    confidence: float
    speaker: str
    channel: int


class ProvisionalAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The finals and open utterances of the audio before a `ProvisionalRequested`."""

    request: str
    utterances: int
    """So many finals come before it; they are in the log, and soon in the List."""
    provisional: list[OpenUtterance]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(FeedMessage)


def encode_message(message: FeedMessage) -> bytes:
    """The message as published."""
    return _encoder.encode(message)


def decode_message(data: bytes) -> FeedMessage:
    """The published message.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return _decoder.decode(data)


async def read_feed(
    server: Server, keys: RunKeys, after: Position, *, limit: int = 1000
) -> list[tuple[Position, bytes]]:
    """The feed's events after a position, in order: (id, JSON body).

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    if after == SEALED:
        return []  # nothing comes after the end, and Redis refuses a range that starts there
    entries = await server.execute("XRANGE", keys.feed, f"({after}", "+", "COUNT", limit)
    return [(Position.parse(entry_id), fields[1]) for entry_id, fields in entries]
