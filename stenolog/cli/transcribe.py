"""`stenolog transcribe`: a recording through a running edge."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import uvloop

from stenolog.cli.captions import Captions
from stenolog.cli.errors import UNABLE, UserError, told
from stenolog.client.wav import Recording
from stenolog.client.websocket import Client, Message

WAV = (b"RIFF", b"RF64")
"""What a WAV file begins with; it is read here, so that it may go as fast as it was spoken, and by seconds."""

HEAD_BYTES = 4

BLOCK_BYTES = 65_536
"""What the edge puts into one entry."""

MEGABYTE = 1_000_000


def run(
    *, file: str, url: str, realtime: bool, language: str, split_channels: bool, as_json: bool, token: str
) -> None:
    """Stream `file` and print its transcript, or the whole `session_end` object."""
    with told(), _opened(file) as opened:
        source = Peeked(opened)
        if source.head.startswith(WAV):
            recording = Recording(cast("BinaryIO", source), split_channels=split_channels)
            end = stream(recording, url, realtime=realtime, language=language, token=token)
        elif realtime:
            raise UserError("--realtime goes with WAV files: how long others are only the server knows", UNABLE)
        else:
            end = upload(
                source, url, size_bytes=_size(file), language=language, split_channels=split_channels, token=token
            )
    if as_json:
        print(json.dumps(end, ensure_ascii=False))
    else:
        print(end.get("transcript") or "")


def stream(recording: Recording, url: str, *, realtime: bool, language: str = "", token: str = "") -> Message:
    """Stream a recording with captions on standard error; returns the `session_end` message.

    Raises:
        ClientError: if the server refuses or stays away.
    """
    with Captions(sample_rate_hz=recording.sample_rate_hz, duration_s=recording.duration_s) as captions:
        client = Client(
            url, sample_rate_hz=recording.sample_rate_hz, channels=recording.channels, language=language,
            realtime=realtime, on_message=captions.show, token=token,
        )
        return uvloop.run(client.run(recording.blocks()))


def upload(
    source: "Peeked", url: str, *, size_bytes: int | None, language: str, split_channels: bool, token: str = ""
) -> Message:
    """Send a recording of any format as it is, with captions on standard error; returns the `session_end` message.

    Raises:
        ClientError: if the server refuses, stays away, or can't decode it.
    """
    size_mb = None if size_bytes is None else size_bytes / MEGABYTE
    with Captions(sample_rate_hz=MEGABYTE, duration_s=size_mb, said=lambda sent: f"{sent:.1f} MB") as captions:
        client = Client(
            url, sample_rate_hz=None, channels=2 if split_channels else 1, language=language, on_message=captions.show,
            token=token,
        )  # fmt: skip
        return uvloop.run(client.run(source.blocks()))


class Peeked:
    """A file or pipe whose first bytes are known before it is read."""

    def __init__(self, source: BinaryIO) -> None:
        """Read the `head` of `source`."""
        self._source = source
        self.head = b""
        while len(self.head) < HEAD_BYTES and (data := source.read(HEAD_BYTES - len(self.head))):
            self.head += data
        self._rest = self.head

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if self._rest:
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        return self._source.read(size)

    def blocks(self) -> Iterator[bytes]:
        """All of it, as it comes.

        Raises:
            UserError: if it can't be read.
        """
        try:
            while data := self.read(BLOCK_BYTES):
                yield data
        except OSError as error:
            raise UserError(f"the file can't be read: {error.strerror or error}") from error


def _size(file: str) -> int | None:
    return None if file == "-" else Path(file).stat().st_size


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        # Unbuffered: a thread that waits in a buffered one holds a lock that the interpreter wants at its end.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            yield cast("BinaryIO", pipe)
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below; only opening is the user's trouble
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    with source:
        yield source
