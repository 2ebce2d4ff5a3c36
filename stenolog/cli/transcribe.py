"""`stenolog transcribe`: a recording through a running edge."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import click
import uvloop

from stenolog.cli.captions import Captions
from stenolog.cli.options import ExampleCommand, options
from stenolog.client.audio_file import AudioFile
from stenolog.client.websocket import Client, Message
from stenolog.errors import UserError


@click.command(cls=ExampleCommand, epilog=(
    "stenolog transcribe meeting.wav > meeting.txt\n"
    "stenolog transcribe talk.mp4 --language de\n"
    "arecord -f S16_LE -r 16000 -t wav | stenolog transcribe -\n"
    "stenolog transcribe call.wav --split-channels --json | jq '.finals[].words[]'"
))
@click.argument("file", type=click.Path(allow_dash=True))
@options("url")
@click.option("--realtime", is_flag=True, help="No faster than it was spoken.")
@click.option("--language", metavar="CODE", default="", help="Language spoken, such as en.")
@click.option("--split-channels", is_flag=True, help="Keep the two channels of a stereo file apart, a speaker each.")
@click.option("--json", "as_json", is_flag=True, help="Print session_end and all finals, with their words, instead.")
@options("token")
def transcribe(
    *, file: str, url: str, realtime: bool, language: str, split_channels: bool, as_json: bool, token: str
) -> None:
    """Stream a recording FILE (- is standard input) to a running edge and print its transcript.

    Any format that FFmpeg reads is decoded here: WAV, FLAC, MP3, Ogg, WebM, MP4 and more, by content and not by name.
    Captions and progress go to standard error, the transcript alone to standard output. An interrupted connection is
    resumed where it ended.
    """
    with _opened(file) as source:
        audio = AudioFile(source, split_channels=split_channels)
        end = uvloop.run(stream(
            audio.blocks(), url, sample_rate_hz=audio.sample_rate_hz, channels=audio.channels,
            duration_s=audio.duration_s, realtime=realtime, language=language, token=token,
        ))  # fmt: skip
    if audio.damage:
        print(f"the recording is damaged or cut off ({audio.damage}); this is what could be read", file=sys.stderr)
    print(json.dumps(end, ensure_ascii=False) if as_json else end.get("transcript") or "")


class _Finals:
    """Keeps a session's finals, in order."""

    def __init__(self) -> None:
        self._found: dict[int, Message] = {}

    @property
    def found(self) -> list[Message]:
        """All so far."""
        return [self._found[number] for number in sorted(self._found)]

    def take(self, message: Message) -> None:
        """Take one message."""
        if message["type"] == "final":
            self._found[message["utterance"]] = message
        elif message["type"] == "reset":  # all come again
            self._found.clear()


async def stream(
    blocks: Iterator[bytes], url: str, *, sample_rate_hz: int, duration_s: float | None, channels: int = 1,
    realtime: bool, language: str = "", token: str = "",
) -> Message:  # fmt: skip
    """Stream a recording with captions on standard error; returns the `session_end` message, with all `finals`.

    Raises:
        ClientError: if the server refuses or stays away.
        AudioFileError: if the recording can't be read.
    """
    with Captions(sample_rate_hz=sample_rate_hz, duration_s=duration_s) as captions:
        finals = _Finals()

        def take(message: Message) -> None:
            captions.show(message)
            finals.take(message)

        client = Client(
            url, sample_rate_hz=sample_rate_hz, channels=channels, language=language, realtime=realtime,
            on_message=take, token=token,
        )  # fmt: skip
        end = await client.run(blocks)
    # Where the end came without the connection, its transcript was fetched, with every final in it.
    whole = end["utterances"] if isinstance(end.get("utterances"), list) else finals.found
    return {**end, "finals": whole}


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        # Unbuffered: a thread that waits in a buffered one holds a lock that the interpreter wants at its end.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            yield cast("BinaryIO", pipe)
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below; only opening is the user's error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    with source:
        yield source
