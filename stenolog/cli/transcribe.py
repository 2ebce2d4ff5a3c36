"""`stenolog transcribe`: a WAV file through a running edge."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import uvloop

from stenolog.cli.captions import Captions
from stenolog.cli.errors import UserError, told
from stenolog.client import Client, Message
from stenolog.wav import Recording


def run(*, file: str, url: str, realtime: bool, language: str, split_channels: bool, as_json: bool) -> None:
    """Stream `file` and print its transcript, or the whole `session_end` object."""
    with told(), _opened(file) as source:
        recording = Recording(source, split_channels=split_channels)
        end = stream(recording, url, realtime=realtime, language=language)
    if as_json:
        print(json.dumps(end, ensure_ascii=False))
    else:
        print(end.get("transcript") or "")


def stream(recording: Recording, url: str, *, realtime: bool, language: str = "") -> Message:
    """Stream a recording with captions on standard error; returns the `session_end` message.

    Raises:
        ClientError: if the server refuses or stays away.
    """
    with Captions(sample_rate_hz=recording.sample_rate_hz, duration_s=recording.duration_s) as captions:
        client = Client(
            url, sample_rate_hz=recording.sample_rate_hz, channels=recording.channels, language=language,
            realtime=realtime, on_message=captions.show,
        )
        return uvloop.run(client.run(recording.blocks()))


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
