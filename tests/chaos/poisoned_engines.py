"""Recognisers that a poisoned session kills, in an installed package that every role of the suite finds."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.plan import POISONED_RATE_HZ

_SOURCE = f"""
import os, signal

def _dying(base):
    class Dying(base):
        def recognise(self, clips):
            if any(clip.sample_rate_hz == {POISONED_RATE_HZ} for clip in clips):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().recognise(clips)
    return Dying

def mock(**settings):
    from processor.recognisers.mock import MockRecogniser
    return _dying(MockRecogniser)(**settings)

def whisper(**settings):
    from processor.recognisers.whisper import WhisperRecogniser
    return _dying(WhisperRecogniser)(**settings)
"""


def install(directory: Path, engine: str) -> str:
    """Install the package into `directory`, for the Python path; returns the name of `engine`'s stand-in."""
    metadata = directory / "chaos_engines-1.0.dist-info"
    metadata.mkdir(parents=True)
    (directory / "chaos_engines.py").write_text(_SOURCE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-engines\nVersion: 1.0\n")
    points = "".join(f"chaos-{name} = chaos_engines:{name}\n" for name in ("mock", "whisper"))
    (metadata / "entry_points.txt").write_text(f"[stenolog.recognisers]\n{points}")
    return f"chaos-{engine}"
