"""Real worker processes: killed amid a container, another decodes again and nothing differs; with real words."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soxr

from benchmarks import clips
from benchmarks.wer import word_error_rate
from eventlog.events import UtteranceFinal
from processor.recognisers import load
from tests.integration.decoding.recordings import FORMATS, encoded, recording
from tests.integration.decoding.test_worker_failures import children_of
from tests.integration.decoding.uploads import Upload, ended, opened, sent
from tests.support.commands import environment
from tests.support.deployment import PARTITIONS, Deployment
from tests.support.pcm import Samples
from tests.support.waiting import eventually_async
from tests.support.watcher import Watcher


@contextmanager
def worker(url: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of its own, with the mock engine."""
    variables = {"REDIS_URL": url, "STENOLOG_LEASE_MS": "500", "STENOLOG_PARTITIONS": str(PARTITIONS)}
    process = subprocess.Popen(
        [sys.executable, "-m", "stenolog", "worker", "--engine", "mock"], cwd=directory,
        env=environment(**variables), stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    watcher = Watcher(process.pid)
    try:
        yield process
    finally:
        watcher.stop()
        process.kill()
        process.wait()


async def test_a_killed_worker_takes_its_decoder_along(single: Deployment, tmp_path: Path) -> None:
    """After kill -9 amid decoding no decoder lives on, and the next worker's transcript is undisturbed (SAFE-1)."""
    data = recording("webm as recorded", 2)
    upload = await opened(single)
    await upload.send(data[: len(data) // 2])
    with worker(single.url, tmp_path) as first:
        [pid] = await eventually_async(lambda: children_of(first.pid), 60)
        await eventually_async(lambda: _has_final(upload), 20)
        os.kill(first.pid, signal.SIGKILL)
        await eventually_async(lambda: not Path(f"/proc/{pid}").exists())
    await upload.send(data[len(data) // 2 :])
    await upload.seal()
    with worker(single.url, tmp_path):
        await ended([upload], 60)
        undisturbed = await sent(single, data)
        await ended([undisturbed], 60)
    assert (await upload.facts())[1:] == (await undisturbed.facts())[1:]
    assert await upload.pcm() == await undisturbed.pcm()


async def _has_final(upload: Upload) -> bool:
    return any(isinstance(fact, UtteranceFinal) for _, fact in await upload.decoded_facts())


def at_rate(pcm: bytes, rate_hz: int) -> Samples:
    """Samples of 16 kHz at another rate, shape (samples, 1)."""
    found: Samples = soxr.resample(np.frombuffer(pcm, "<i2"), 16_000, rate_hz).reshape(-1, 1)
    return found


@pytest.mark.parametrize("name", ["webm as recorded", "mp4 in fragments", "mp3"])
async def test_a_recording_is_recognised_as_its_samples_are(single: Deployment, name: str) -> None:
    """Whisper recognises in a compressed recording the words that were read, a few in a hundred aside (LIVE-5)."""
    conversation = clips.conversation(pause_s=1.5)
    samples = at_rate(conversation.pcm, FORMATS[name].rate_hz)
    segmenter: dict[str, object] = {}
    upload = await sent(single, encoded(samples, FORMATS[name]), segmenter=segmenter)
    await single.started(load("whisper", max_parallel=2))
    await ended([upload], 120)
    recognised = " ".join(fact.text for _, fact in await upload.decoded_facts() if isinstance(fact, UtteranceFinal))
    assert word_error_rate([(conversation.words, recognised)]) < 0.08
