"""The examples of README.md, run as they are printed."""

import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from processor.speech import Segmenter, SegmenterSettings
from stenolog.wav import Recording
from tests.cli.commands import ROOT, TIMEOUT_S, environment
from tests.e2e.deployment import Conversation, Up

PRINTED = "127.0.0.1:8000"
"""The address in the examples: where `make run` serves."""


def examples(language: str) -> list[str]:
    """The code blocks of README.md in this language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def finals(path: Path) -> list[str]:
    """What the mock recogniser makes of a recording."""
    with path.open("rb") as file:
        recording = Recording(file)
        rate_hz, pcm = recording.header.sample_rate_hz, b"".join(recording.blocks())
    segmenter = Segmenter(SegmenterSettings(), rate_hz)
    clips = [
        Clip(pcm=boundary.utterance.pcm, sample_rate_hz=rate_hz)
        for boundary in segmenter.feed(pcm) + segmenter.close() if boundary.utterance
    ]
    return [recognition.text for recognition in MockRecogniser().recognise(clips)]


def fetched(url: str, headers: dict[str, str]) -> str:
    """The body at an address of the deployment."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:  # noqa: S310 - our own address
        return str(answer.read().decode())


def test_the_python_example_prints_the_finals(tmp_path: Path) -> None:
    """The Python program in README.md, as printed but for the port, prints each final of its recording."""
    [code] = examples("python")
    assert PRINTED in code
    [path] = re.findall(r'"(speech/[^"]+\.wav)"', code)
    with Up(tmp_path) as up:
        code = code.replace(f"ws://{PRINTED}", up.url.replace("http", "ws", 1))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True,
            timeout=TIMEOUT_S, check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == finals(ROOT / path)


async def test_the_curl_examples_are_answered(tmp_path: Path) -> None:
    """Each address that README.md gives to curl is answered, the transcript as plain text."""
    commands = [shlex.split(line) for code in examples("sh") for line in code.splitlines() if line.startswith("curl ")]
    assert len(commands) == 3
    with Up(tmp_path) as up:
        conversation = Conversation(up.url, (4,), realtime=False)
        end = await conversation.hold()
        answers = {}
        for *options, address in commands:
            url = address.replace(f"http://{PRINTED}", up.url).replace("$SESSION", conversation.client.session_id)
            answers[address] = fetched(url, dict(option.split(": ") for option in options if ": " in option))
    [transcript] = [text for address, text in answers.items() if address.endswith("/transcript")]
    assert transcript.split() == str(end["transcript"]).split()
