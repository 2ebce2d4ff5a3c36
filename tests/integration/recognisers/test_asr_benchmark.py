"""The recognisers' benchmark, on the smallest kinds with the real model."""

import json

import pytest

from benchmarks import asr
from benchmarks.corpus import MORE_SPEECH
from tests.support.tree import ROOT


def test_benchmark_measures_and_compares(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """WORD-1: the benchmark gives errors, lost ends and CPU of ours, alone and in eights, and of an older checkout."""
    monkeypatch.delenv(MORE_SPEECH, raising=False)
    asr.main(["--kinds", "plain", "--no-whole-file", "--baseline", str(ROOT), "--json"])
    [line] = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    plain = report["kinds"]["plain"]
    assert plain["utterances"] == 5
    for name in ("ours", "in_eights", "baseline"):
        assert plain[name]["spoken"] == 70
        assert plain[name]["wer"] < 0.1
        assert plain[name]["lost_ends"] == 0
        assert plain[name]["cpu_s_per_audio_s"] > 0
    # This checkout is its own baseline, so the same recogniser ran in the child.
    assert plain["baseline"]["wer"] == plain["ours"]["wer"]
    assert 0.3 < plain["cpu_ratios"]["ours_to_baseline"] < 3
    assert report["all_speech"]["ours"]["spoken"] == 70


def test_unknown_kind_is_refused() -> None:
    """A kind that isn't known ends the run before anything is loaded, and the error names those that are."""
    with pytest.raises(ValueError, match=r"unknown kinds \['plane'\].*plain"):
        asr.main(["--kinds", "plane", "--no-whole-file"])
