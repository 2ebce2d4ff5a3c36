"""Examines the engine that a worker on this machine would load: what it is, where it runs, how fast (WORD-9)."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import msgspec

from processor.recognisers import Clip, Recogniser, RecogniserError, Recognition
from stenolog import wiring
from stenolog.local.demo import RATE_HZ, recordings, samples
from stenolog.operations.doctor import MOCK_ENGINE, Check, missing_words
from stenolog.settings import Settings

ROUNDS = 3
"""Measurements of each speed, after one that is not counted: the first call of a model allocates its memory."""

MOST_IN_BATCH = 8
"""More show no other speed on a CPU; of a GPU the batch of the settings may be larger."""

SLOWEST = 1.0
"""Seconds of work per second of speech past which a worker falls behind a single speaker."""


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """An engine, and its speed."""

    engine: str
    model: str
    """Empty if the engine does not name it."""
    device: str
    """``cpu`` or ``cuda``; empty for an engine that has none of its own."""
    compute_type: str
    languages: tuple[str, ...]
    """Codes; empty if the engine does not state them."""
    load_s: float
    wall_s_per_audio_s: float
    cpu_s_per_audio_s: float
    """Of all threads of this process: with a remote engine, or on a GPU, it is small."""
    batch_clips: int
    """Utterances decoded together for the next two."""
    batch_wall_s_per_audio_s: float
    batch_cpu_s_per_audio_s: float


class _Speed(NamedTuple):
    wall_s: float
    cpu_s: float


def examine_engine(settings: Settings) -> tuple[list[Check], EngineReport | None]:
    """Load the engine and recognise the bundled recording; the report is None if that fails."""
    started = time.perf_counter()
    try:
        recogniser = wiring.recogniser(settings)
    except RecogniserError as error:
        remedy = "see STENOLOG_ENGINE, STENOLOG_MODEL and STENOLOG_WHISPER_… in docs/settings.md"
        return [Check(name="engine", ok=False, detail=str(error), remedy=remedy)], None
    load_s = time.perf_counter() - started
    try:
        return _examine(recogniser, settings, load_s)
    except RecogniserError as error:
        loaded = Check(name="engine", ok=True, detail=f"{recogniser.name}, loaded in {load_s:.1f} s")
        remedy = "the engine was loaded and then failed: is its service, or its GPU, free?"
        return [loaded, Check(name="recognition", ok=False, detail=str(error), remedy=remedy)], None
    finally:
        recogniser.close()


def _examine(recogniser: Recogniser, settings: Settings, load_s: float) -> tuple[list[Check], EngineReport]:
    path = min(recordings(), key=lambda found: found.stat().st_size)
    pcm = samples(path)
    audio_s = len(pcm) / 2 / RATE_HZ
    languages = tuple(sorted(getattr(recogniser, "languages", ())))
    # An engine that states none takes any code; the recording is English.
    clip = Clip(pcm=pcm, sample_rate_hz=RATE_HZ, language="en")
    count = max(1, min(recogniser.max_batch, MOST_IN_BATCH))
    [recognition] = recogniser.recognise([clip])
    alone = _measure(lambda: recogniser.recognise([clip]), audio_s)
    together = alone if count == 1 else _measure(lambda: recogniser.recognise([clip] * count), count * audio_s)
    is_whisper = settings.engine == "whisper"
    report = EngineReport(
        engine=recogniser.name,
        model=str(getattr(recogniser, "model", "") or recognition.model or settings.model),
        device=str(getattr(recogniser, "device", "") or (settings.whisper_device if is_whisper else "")),
        compute_type=str(getattr(recogniser, "compute_type", "") or (
            settings.whisper_compute_type if is_whisper else "")),
        languages=languages, load_s=round(load_s, 2), batch_clips=count,
        wall_s_per_audio_s=round(alone.wall_s, 4), cpu_s_per_audio_s=round(alone.cpu_s, 4),
        batch_wall_s_per_audio_s=round(together.wall_s, 4), batch_cpu_s_per_audio_s=round(together.cpu_s, 4),
    )  # fmt: skip
    return [_check_engine(report), _check_recognition(path.name, recognition, report), _check_speed(report)], report


def _measure(recognise: Callable[[], list[Recognition]], audio_s: float) -> _Speed:
    found: list[_Speed] = []
    for _ in range(ROUNDS):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        recognise()
        found.append(_Speed(time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return _Speed(
        median(one.wall_s for one in found) / audio_s, median(one.cpu_s for one in found) / audio_s
    )


def _check_engine(report: EngineReport) -> Check:
    where = f" on {report.device} ({report.compute_type})" if report.device else ""
    model = f", model {report.model}" if report.model else ""
    languages = f"{len(report.languages)} languages" if len(report.languages) > MOST_IN_BATCH else (
        f"languages {', '.join(report.languages)}" if report.languages else "languages not stated")  # fmt: skip
    detail = f"{report.engine}{model}{where}, {languages}, loaded in {report.load_s:.1f} s"
    return Check(name="engine", ok=True, detail=detail)


def _check_recognition(recording: str, recognition: Recognition, report: EngineReport) -> Check:
    words = recognition.text.split()
    missing = None if report.engine == MOCK_ENGINE else missing_words(recording, words)
    if words and not missing:
        times = f", {len(recognition.words)} with times" if recognition.words else ", without times"
        return Check(name="recognition", ok=True, detail=f"{len(words)} words{times}")
    detail = f"{len(words)} words" + (f"; {missing}" if missing else "")
    remedy = "is the model one for this engine, and for English?"
    return Check(name="recognition", ok=False, detail=detail, remedy=remedy)


def _check_speed(report: EngineReport) -> Check:
    wall, cpu = report.wall_s_per_audio_s, report.cpu_s_per_audio_s
    detail = f"{wall:.3f} s for a second of speech ({cpu:.3f} s of CPU)"
    if report.batch_clips > 1:
        wall_batch, cpu_batch = report.batch_wall_s_per_audio_s, report.batch_cpu_s_per_audio_s
        detail += f"; {wall_batch:.3f} s in a batch of {report.batch_clips} ({cpu_batch:.3f} s of CPU)"
    if wall <= SLOWEST:
        return Check(name="speed", ok=True, detail=detail)
    remedy = "a worker can't keep up with one speaker: take a smaller model, a GPU, or a machine that does less"
    return Check(name="speed", ok=False, detail=detail, remedy=remedy)
