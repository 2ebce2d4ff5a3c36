"""`stenolog doctor --local`: the engine of this machine, without any deployment (WORD-9)."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from processor.recognisers import RecogniserError
from stenolog import wiring
from stenolog.cli import cli
from stenolog.settings import Settings

WHISPER_DEFAULTS = {"cpu_threads", "max_batch", "max_parallel", "device"}


def examined(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON with these settings in the environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(cli, ["doctor", "--local", "--json"])
    assert done.stderr == ""
    return done.exit_code, json.loads(done.stdout)


def test_whisper_is_described_with_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled Whisper is loaded, recognises the sentence, and its device and speed are reported (WORD-9)."""
    status, found = examined(monkeypatch, STENOLOG_ENGINE="whisper", STENOLOG_MAX_BATCH_CLIPS="2")
    assert (status, found["ok"]) == (0, True)
    assert [(check["name"], check["ok"]) for check in found["checks"]] == [
        ("engine", True), ("recognition", True), ("speed", True),
    ]
    engine = found["engine"]
    assert (engine["engine"], engine["device"], engine["batch_clips"]) == ("whisper", "cpu", 2)
    assert 0 < engine["cpu_s_per_audio_s"] < 1
    assert 0 < engine["batch_wall_s_per_audio_s"] < 1
    assert engine["load_s"] > 0


def test_the_mock_has_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine without a device of its own names none, and its invented words are no failure (WORD-9)."""
    status, found = examined(monkeypatch, STENOLOG_ENGINE="mock")
    assert (status, found["ok"]) == (0, True)
    assert (found["engine"]["engine"], found["engine"]["device"], found["engine"]["compute_type"]) == ("mock", "", "")
    assert "10 with times" in found["checks"][1]["detail"]


def test_a_missing_gpu_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the GPU that is asked for, the check and a worker's start fail with that reason (WORD-9)."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    if ctranslate2.get_cuda_device_count():
        pytest.skip("this machine has a GPU")
    status, found = examined(monkeypatch, STENOLOG_ENGINE="whisper", STENOLOG_WHISPER_DEVICE="cuda")
    [check] = found["checks"]
    assert (status, found["engine"], check["ok"]) == (1, None, False)
    assert check["detail"] == (
        "STENOLOG_WHISPER_DEVICE is cuda, and CTranslate2 finds no GPU here: install the driver, or set cpu"
    )
    started = CliRunner().invoke(cli, ["worker"])
    assert started.exit_code == 2
    assert check["detail"] in str(started.exception) + started.output


def test_a_model_that_is_missing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that can't be loaded is one failed check with its name and a remedy (WORD-9)."""
    status, found = examined(monkeypatch, STENOLOG_ENGINE="whisper", STENOLOG_MODEL="/nowhere")
    [check] = found["checks"]
    assert (status, check["name"], check["ok"]) == (1, "engine", False)
    assert "/nowhere" in check["detail"]
    assert "STENOLOG_MODEL" in check["remedy"]


def asked(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, object]:  # noqa: ANN401 - fields of the settings
    """The keywords that a recogniser is made with."""
    found: dict[str, object] = {}
    monkeypatch.setattr(wiring, "load", lambda _, **keywords: found.update(keywords))
    wiring.recogniser(Settings(engine="whisper", **settings))
    return found


def test_settings_of_the_device_reach_whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Device, index, compute type, beam and batch are passed on; unset ones are left to the engine (WORD-9)."""
    assert asked(monkeypatch).keys() == WHISPER_DEFAULTS
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 2)
    found = asked(
        monkeypatch, whisper_device="cuda", whisper_device_index=1, whisper_compute_type="int8_float16",
        whisper_beam=3, whisper_batch_s=480.0,
    )  # fmt: skip
    assert {name: value for name, value in found.items() if name not in WHISPER_DEFAULTS - {"device"}} == {
        "device": "cuda", "device_index": 1, "compute_type": "int8_float16", "beam": 3, "batch_context_s": 480.0,
    }
    assert found["max_parallel"] == asked(monkeypatch, whisper_device="auto")["max_parallel"] == wiring.GPU_CALLS
    with pytest.raises(RecogniserError, match="DEVICE_INDEX is 2, and CTranslate2 finds 2 GPUs"):
        asked(monkeypatch, whisper_device="cuda", whisper_device_index=2)
