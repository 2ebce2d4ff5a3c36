"""Broken, lying and attacking files: each a clear failure, and whatever could be decoded of it kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processor.decoding.child_protocol import FAILURE_STATUS
from tests.integration.decoding.children import command, decoded
from tests.integration.decoding.hostile import MAY_BE_TAKEN, NEVER_TAKEN, cut_off, damaged
from tests.integration.decoding.recordings import likeness, recording
from tests.support.pcm import talk
from tests.support.tree import ROOT
from tests.support.waiting import eventually

RECORDERS = ("webm as recorded", "ogg", "mp4 in fragments", "mp3", "flac", "wav of 16 bit")


@pytest.mark.parametrize("name", NEVER_TAKEN)
def test_other_files_are_refused_in_words(name: str) -> None:
    """A file without audio ends its decoder in order, with one sentence for a person and no sample (LIVE-5)."""
    found = decoded(NEVER_TAKEN[name])
    assert found.status == FAILURE_STATUS
    assert found.pcm == b""
    assert 10 < len(found.message) < 120
    assert "\n" not in found.message


@pytest.mark.parametrize("name", MAY_BE_TAKEN)
def test_noise_that_looks_like_frames_breaks_nothing(name: str) -> None:
    """Noise after a lax magic number either gives some samples or is refused; the decoder ends in order."""
    assert decoded(MAY_BE_TAKEN[name]).status in {0, FAILURE_STATUS}


@pytest.mark.parametrize("name", RECORDERS)
def test_audio_before_a_cut_is_kept(name: str) -> None:
    """A recording cut off anywhere gives the beginning of what it held, or a refusal if that is nothing (LIVE-5)."""
    longest = 0
    for data in cut_off(name, pieces=4):
        found = decoded(data)
        assert found.status in {0, FAILURE_STATUS}
        assert (found.status == 0) == bool(found.pcm)
        if len(data) > len(recording(name)) / 2:
            assert found.status == 0
            longest = max(longest, len(found.samples))
            assert likeness(found.samples[:, 0], talk()[:, 0]) > 0.9
    assert longest > len(talk()) / 2


@pytest.mark.parametrize("seed", [0, 14])
def test_audio_before_broken_structure_is_kept(seed: int) -> None:
    """Where a container's own structure breaks, decoding ends with the audio before it, without a failure."""
    found = decoded(damaged(recording("mp4 in fragments"), seed))
    assert found.status == 0
    assert len(found.samples) > 30_000
    assert found.message == f"ends after {len(found.samples) / 16_000:.1f} s: it is damaged or cut off"


def test_an_mp4_cut_before_its_index_says_so() -> None:
    """An MP4 whose index came last and is missing can't be decoded, and its failure names the reason."""
    found = decoded(recording("mp4 with its index last")[:-600])
    assert found.status == FAILURE_STATUS
    assert found.message == "mp4 that is cut off: its index, which comes last, is missing"


@pytest.mark.parametrize("name", [*RECORDERS, "mp4 with its index last"])
def test_damage_ends_no_decoder(name: str) -> None:
    """A recording with wrong bytes anywhere gives its readable part, or a refusal; the decoder ends in order."""
    for seed in range(3):
        assert decoded(damaged(recording(name), seed)).status in {0, FAILURE_STATUS}


def test_a_spool_is_bounded() -> None:
    """An MP4 that must be kept on disk is refused once it is longer than that may be."""
    found = decoded(recording("mp4 with its index last"), "--max-spool-bytes", "20000")
    assert found.status == FAILURE_STATUS
    assert "index at the end" in found.message


def test_a_decoder_is_confined() -> None:
    """A decoder has bounds on memory, CPU, files and core dumps before it reads a byte, and yields to live sessions."""
    program = (
        "import os, resource as r; from processor.decoding.resource_limits import confine; "
        "confine(parent=os.getppid(), file_bytes=5); print([r.getrlimit(one) for one in "
        "(r.RLIMIT_AS, r.RLIMIT_CORE, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)], r.getrlimit(r.RLIMIT_CPU)[0], os.nice(0))"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    niceness = min(19, os.nice(0) + 5)
    assert printed.strip() == f"[(805306368, 805306368), (0, 0), (5, 5), (32, 32)] 20 {niceness}"


def test_a_decoder_dies_with_its_parent() -> None:
    """When the process that started it dies, a decoder ends at once, though its input stays open (SAFE-1)."""
    program = (
        "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(child.pid, flush=True); child.wait()"
    )
    words = [sys.executable, "-c", program, *command("--messages")]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        pid = int(parent.stdout.readline())
        assert b'"input_consumed"' in parent.stderr.readline(), "it waits for input, confined"
        parent.kill()
        eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_an_orphan_decodes_nothing() -> None:
    """A decoder whose parent has gone meanwhile ends at once."""
    done = subprocess.run(command("--parent", "1"), cwd=ROOT, input=recording("ogg"), capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
