"""The bundled recording: sentences that `up --demo`, `doctor` and the benchmarks stream as a live speaker would."""

import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

from stenolog.errors import UserError

RATE_HZ = 16_000
BLOCK_BYTES = 2 * RATE_HZ // 10

PAUSE_S = 1.0
"""Between two sentences, and after the last: longer than the pause that ends an utterance."""

# In an installed package beside this file, in a checkout beside the package.
_PLACES = (Path(__file__).with_name("speech"), Path(__file__).parents[2] / "speech")


def recordings() -> list[Path]:
    """The bundled sentences, in order: WAV files of 16-bit mono at `RATE_HZ`.

    Raises:
        UserError: if they were not installed.
    """
    for place in _PLACES:
        if found := sorted(place.glob("*.wav")):
            return found
    raise UserError("the bundled recording is not installed")


def samples(path: Path) -> bytes:
    """The samples of one sentence."""
    with wave.open(str(path)) as file:
        pcm: bytes = file.readframes(file.getnframes())
        return pcm


def blocks(paths: Sequence[Path]) -> Iterator[bytes]:
    """The sentences as blocks of PCM, a pause after each."""
    for path in paths:
        pcm = samples(path)
        yield from (pcm[start : start + BLOCK_BYTES] for start in range(0, len(pcm), BLOCK_BYTES))
        yield bytes(2 * int(PAUSE_S * RATE_HZ))
