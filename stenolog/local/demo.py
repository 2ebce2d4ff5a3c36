"""The bundled recording, streamed as a live speaker would."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stenolog.cli.captions import Captions
from stenolog.client.wav import Recording, WavError
from stenolog.client.websocket import Client

PAUSE_S = 1.0
"""Between two sentences, and after the last: longer than the pause that ends an utterance."""

# In an installed package beside this file, in a checkout beside the package.
_PLACES = (Path(__file__).with_name("speech"), Path(__file__).parents[2] / "speech")


def recordings() -> list[Path]:
    """The bundled sentences, in order.

    Raises:
        WavError: if they were not installed.
    """
    for place in _PLACES:
        if found := sorted(place.glob("*.wav")):
            return found
    raise WavError("the bundled recording is not installed")


async def show(url: str, token: str = "") -> str:
    """Stream the recording to the edge at `url` in real time, with captions; print and return the transcript.

    Raises:
        ClientError: if the edge refuses.
        WavError: if the recording is not installed.
    """
    paths = recordings()
    duration_s, rate_hz = 0.0, 0
    for path in paths:
        with path.open("rb") as file:
            header = Recording(file).header
            duration_s += (header.frames or 0) / header.sample_rate_hz + PAUSE_S
            rate_hz = header.sample_rate_hz
    with Captions(sample_rate_hz=rate_hz, duration_s=duration_s) as captions:
        client = Client(url, sample_rate_hz=rate_hz, realtime=True, on_message=captions.show, token=token)
        end = await client.run(blocks(paths))
    transcript = str(end.get("transcript") or "")
    print(transcript, flush=True)  # noqa: T201 - the command's result
    return transcript


def blocks(paths: Sequence[Path]) -> Iterator[bytes]:
    """The recordings as blocks of PCM, a pause after each."""
    for path in paths:
        with path.open("rb") as file:
            recording = Recording(file)
            yield from recording.blocks()
            yield bytes(2 * int(PAUSE_S * recording.sample_rate_hz))
