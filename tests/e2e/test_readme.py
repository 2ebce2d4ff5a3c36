"""The examples of README.md, run as they are printed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from processor.speech import Segmenter, SegmenterSettings
from stenolog.local.demo import RATE_HZ, samples
from tests.e2e.deployment import Up
from tests.support.commands import TIMEOUT_S, environment
from tests.support.tree import ROOT

PRINTED = "127.0.0.1:8000"
"""The address in the examples: where `make run` serves."""


def examples(language: str) -> list[str]:
    """The code blocks of README.md in this language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def finals(path: Path) -> list[str]:
    """The mock recogniser's finals of a recording."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    clips = [
        Clip(pcm=boundary.utterance.pcm, sample_rate_hz=RATE_HZ)
        for boundary in segmenter.feed(samples(path)) + segmenter.close() if boundary.utterance
    ]
    return [recognition.text for recognition in MockRecogniser().recognise(clips)]


def test_the_python_example_prints_the_finals(up: Up) -> None:
    """The Python program in README.md, as printed but for the port, prints each final of its recording."""
    [code] = examples("python")
    assert PRINTED in code
    [path] = re.findall(r'"(speech/[^"]+\.wav)"', code)
    code = code.replace(f"ws://{PRINTED}", up.url.replace("http", "ws", 1))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == finals(ROOT / path)


@pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl")
def test_the_curl_examples_work(up: Up) -> None:
    """The examples for curl in README.md, run one after the other, print what README.md says."""
    typed = "\n".join(code for code in examples("sh") if "curl " in code)
    assert typed.count("curl ") == 10
    script = 'curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }\n' + typed
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script.replace(f"http://{PRINTED}", up.url)], cwd=ROOT,
        env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )
    assert done.returncode == 0, done.stderr
    [text] = finals(ROOT / "speech/sense-0870.wav")
    printed = done.stdout
    assert json.loads(printed.splitlines()[0])["transcript"] == text
    assert printed.count('"cleaned_transcript"') == printed.count("WEBVTT") == 1
    assert printed.count("event: session_end") == printed.count('"status":"completed"') == 1
    assert printed.count(" --> ") > 1
