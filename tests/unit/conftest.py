"""Unit tests start no process: whatever needs one is an integration test."""

import subprocess

import pytest


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test of tests/unit starts a process; move it to tests/integration")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
