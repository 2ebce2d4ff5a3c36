"""What a decoder child says beside samples: JSON objects, one a line."""

from __future__ import annotations

import msgspec

SAMPLE_RATE_HZ = 16_000
"""What everything is decoded to: Whisper's own rate, so no recogniser has to resample again."""

SAMPLE_BYTES = 2  # 16-bit PCM

TROUBLE_STATUS = 3
"""Exit status of a child that says in a `Trouble` why there is nothing, or nothing more; a crash has another."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What the recording is: the first line on standard output, before the samples."""

    container: str
    codec: str
    channels: int
    duration_samples: int = 0
    """In all, as the container's header says; 0 if it doesn't."""
    sample_rate_hz: int = SAMPLE_RATE_HZ


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag="trouble"):
    """Why decoding ended before the end, on standard error; `message` is for a person."""

    message: str


class Mark(msgspec.Struct, frozen=True, kw_only=True, tag="mark"):
    """Everything that can be made of the first `read_bytes` of input is written; more input is waited for."""

    read_bytes: int
    written_bytes: int
    """To standard output, its first line included."""


_source = msgspec.json.Decoder(Source)


def encode_line(message: msgspec.Struct) -> bytes:
    """The message as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_source(line: bytes) -> Source:
    """The first line of standard output.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return _source.decode(line)


class RefusedError(Exception):
    """This input is nothing that can be decoded; the message is for a person."""
