"""The recognisers that are compared: ours in two ways, the same model over the whole file, an older checkout's."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from faster_whisper import WhisperModel

from benchmarks.clips import Spoken
from benchmarks.signals import RATE_HZ
from processor.recognisers.base import Clip, Recognition
from processor.recognisers.whisper import WhisperRecogniser
from processor.speech import Segmenter, SegmenterSettings

_BATCH = 8
_BEAM = 5  # faster-whisper's default


@dataclass(slots=True)
class Result:
    """What a contender made of some recordings.

    Attributes:
        texts: For each recording the text of each of its utterances, in order; the whole file is one.
        cpu_s: CPU seconds of its process, over all threads.
        second_looks: Utterances that were decoded more than once.
        marks: For each utterance the guards that acted.
    """

    texts: list[list[str]]
    cpu_s: float
    second_looks: int = 0
    marks: list[tuple[str, ...]] = field(default_factory=list)


class Contender(Protocol):
    """Recognises recordings; `clips` are each recording's utterances, as our segmenter cuts them."""

    name: str

    def recognise(self, spoken: Sequence[Spoken], clips: Sequence[Sequence[Clip]]) -> Result:
        """Return the texts and their cost."""
        ...


def utterances(recording: Spoken) -> list[Clip]:
    """Cut a recording by our segmenter, as a session is cut."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    boundaries = segmenter.feed(recording.pcm) + segmenter.close()
    return [
        Clip(pcm=found.utterance.pcm, sample_rate_hz=RATE_HZ, voiced_ms=found.utterance.voiced_ms)
        for found in boundaries
        if found.utterance
    ]


class Ours:
    """Our recogniser over the utterances, so many in one call: of all recordings, as of many sessions."""

    def __init__(self, recogniser: WhisperRecogniser, batch: int, name: str) -> None:
        self.name = name
        self._recogniser = recogniser
        self._batch = batch

    def recognise(self, spoken: Sequence[Spoken], clips: Sequence[Sequence[Clip]]) -> Result:  # noqa: ARG002
        """Recognise the utterances in calls of `batch`."""
        queue = [clip for recording in clips for clip in recording]
        found: list[Recognition] = []
        before_s = time.process_time()
        for start in range(0, len(queue), self._batch):
            found += self._recogniser.recognise(queue[start : start + self._batch])
        cpu_s = time.process_time() - before_s
        return Result(
            texts=_grouped([one.text for one in found], clips),
            cpu_s=cpu_s,
            second_looks=sum(one.decodes > 1 for one in found),
            marks=[tuple(getattr(one, "marks", ())) for one in found],
        )


class WholeFile:
    """faster-whisper's own class with its defaults over each whole recording, language given."""

    name = "whole_file"

    def __init__(self, model: str, cpu_threads: int) -> None:
        self._model: Any = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=cpu_threads)

    def recognise(self, spoken: Sequence[Spoken], clips: Sequence[Sequence[Clip]]) -> Result:  # noqa: ARG002
        """Transcribe each recording."""
        before_s = time.process_time()
        texts = [[self._transcribe(recording.pcm)] for recording in spoken]
        return Result(texts, time.process_time() - before_s)

    def _transcribe(self, pcm: bytes) -> str:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
        segments, _ = self._model.transcribe(samples, language="en", beam_size=_BEAM)
        return "".join(segment.text for segment in segments).strip()


class Older:
    """The recogniser of another checkout of this repository, in a child process of its own.

    Args:
        checkout: Its directory.
        settings: Keywords of its recogniser.
        batch: How many utterances it gets in a call.
        name: What the tables call it.

    Raises:
        FileNotFoundError: The directory holds no checkout.
    """

    def __init__(self, checkout: Path, settings: dict[str, object], batch: int, name: str = "baseline") -> None:
        if not (checkout / "processor/recognisers").is_dir():
            raise FileNotFoundError(f"{checkout} is no checkout with processor/recognisers")
        self.name = name
        self._batch = batch
        script = Path(__file__).with_name("older_recogniser.py")
        # -P: the script's own folder, a part of this checkout, stays off the child's path.
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._child.stdin  # noqa: S101 -- a pipe, by construction
        self._child.stdin.close()
        self._child.wait()

    def recognise(self, spoken: Sequence[Spoken], clips: Sequence[Sequence[Clip]]) -> Result:  # noqa: ARG002
        """Recognise the utterances; CPU is the child's."""
        queue = [clip for recording in clips for clip in recording]
        texts: list[str] = []
        cpu_s, second_looks = 0.0, 0
        for start in range(0, len(queue), self._batch):
            self._send([_plain(clip) for clip in queue[start : start + self._batch]])
            answer = self._receive()
            texts += answer["texts"]
            cpu_s += answer["cpu_s"]
            second_looks += sum(decodes > 1 for decodes in answer["decodes"])
        return Result(_grouped(texts, clips), cpu_s, second_looks)

    def _send(self, value: object) -> None:
        assert self._child.stdin  # noqa: S101 -- a pipe, by construction
        self._child.stdin.write(json.dumps(value) + "\n")
        self._child.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._child.stdout  # noqa: S101 -- a pipe, by construction
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the recogniser of the older checkout ended with status {self._child.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _plain(clip: Clip) -> dict[str, object]:
    """Return the fields that every version of a clip has."""
    return {
        "pcm": base64.b64encode(clip.pcm).decode(),
        "sample_rate_hz": clip.sample_rate_hz,
        "voiced_ms": clip.voiced_ms,
    }


def _grouped(texts: Sequence[str], clips: Sequence[Sequence[Clip]]) -> list[list[str]]:
    rest = iter(texts)
    return [[next(rest) for _ in recording] for recording in clips]


def batch_size() -> int:
    """Return how many utterances the batched contenders get in a call."""
    return _BATCH
