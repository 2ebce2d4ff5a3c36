"""The settings: where they are read from, what they refuse, and their page."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from eventlog.keys import READ_MODELS, SINKS
from stenolog.settings import Settings, SettingsError, is_loopback, load
from stenolog.settings.model import fields
from stenolog.settings.page import render
from stenolog.wiring import edge_settings
from tests.support.tree import ROOT


def problems_of(**environ: str) -> list[str]:
    """The problems of loading this environment."""
    with pytest.raises(SettingsError) as caught:
        load(environ, None)
    return caught.value.problems


def test_nothing_given_means_all_defaults() -> None:
    """An empty environment gives the defaults."""
    assert load({}, None) == Settings()


def test_environment_is_read_with_its_prefix() -> None:
    """Variables with the prefix, and REDIS_URL without, set numbers, texts and lists."""
    settings = load({
        "STENOLOG_MAX_SESSIONS": "7", "STENOLOG_RESEND_BUFFER_S": "1.5", "STENOLOG_ENGINE": "mock",
        "STENOLOG_PROJECTIONS": "feeds, lists", "REDIS_URL": "redis://elsewhere:6379", "HOME": "ignored",
    }, None)
    assert settings.max_sessions == 7
    assert settings.resend_buffer_s == 1.5
    assert settings.engine == "mock"
    assert settings.projections == ("feeds", "lists")
    assert settings.redis_url == "redis://elsewhere:6379"


def test_option_beats_environment_beats_file(tmp_path: Path) -> None:
    """The command line overrules the environment, which overrules `.env`; None and empty mean not given."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("STENOLOG_PORT=1\nSTENOLOG_FLUSH_MS=2\nSTENOLOG_IDLE_TIMEOUT_S=3\nSTENOLOG_MODEL=\nOTHER=x\n")
    environ = {"STENOLOG_PORT": "11", "STENOLOG_FLUSH_MS": "12"}
    settings = load(environ, dotenv, port=21, flush_ms=None)
    assert (settings.port, settings.flush_ms, settings.idle_timeout_s, settings.model) == (21, 12, 3, "")


def test_process_environment_and_missing_file_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments the process's own environment is read, and `.env` need not exist."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STENOLOG_PORT", "4711")
    assert load().port == 4711


def test_unknown_name_is_refused_with_the_nearest() -> None:
    """A misspelt name is an error that names it and the nearest setting."""
    assert problems_of(STENOLOG_MAX_SESION="3") == [
        "STENOLOG_MAX_SESION is no setting; did you mean STENOLOG_MAX_SESSIONS?"]


def test_folders_of_recordings_are_no_settings() -> None:
    """Folders that benchmarks read recordings from may be named while roles run, which ignore them."""
    assert load({"STENOLOG_SPEECH_MORE": "somewhere", "STENOLOG_FIELD": "else", "STENOLOG_PORT": "4711"}).port == 4711


def test_unknown_name_in_the_file_is_refused_too(tmp_path: Path) -> None:
    """A misspelt name in `.env` is an error as well."""
    (tmp_path / ".env").write_text("STENOLOG_NONSENSE=1\n")
    with pytest.raises(SettingsError, match="STENOLOG_NONSENSE is no setting"):
        load({}, tmp_path / ".env")


def test_bad_values_are_all_named_with_what_is_allowed() -> None:
    """Every bad value is reported at once with its variable, its value and the allowed ones."""
    assert problems_of(STENOLOG_PORT="abc", STENOLOG_LEASE_MS="1", STENOLOG_LOG_LEVEL="loud",
                       STENOLOG_PROJECTIONS="lists,nothing") == [
        "STENOLOG_PORT: 'abc' is not a whole number of at least 0 and at most 65535 (port)",
        "STENOLOG_LOG_LEVEL: 'loud' is not one of debug, info, warning, error",
        "STENOLOG_LEASE_MS: '1' is not a whole number of at least 500 (ms)",
        f"STENOLOG_PROJECTIONS: 'lists,nothing' is not any of {', '.join((*READ_MODELS, *SINKS))}, separated by commas",
    ]


def test_bad_option_is_distinguished_from_a_bad_variable() -> None:
    """A bad value from the command line is said to be from there."""
    with pytest.raises(SettingsError, match=r"\bport \(the command line\): 99999 is not a whole number"):
        load({}, None, port=99_999)
    with pytest.raises(SettingsError, match="speed is no setting"):
        load({}, None, speed=1)


@pytest.mark.parametrize("environ", [
    {"STENOLOG_MAX_UNACKED_BYTES": "4096"},
    {"STENOLOG_SESSION_TTL_S": "100"},
    {"STENOLOG_WORKER_TICK_MS": "400", "STENOLOG_LEASE_MS": "1000"},
])
def test_values_that_exclude_each_other_are_refused(environ: dict[str, str]) -> None:
    """Values that are fine alone but not together are an error that names both."""
    problems = problems_of(**environ)
    assert len(problems) == 1
    assert problems[0].count("STENOLOG_") == 2


@pytest.mark.parametrize(("name", "wrong"), [
    ("STENOLOG_PAUSE_MS", "-1"), ("STENOLOG_PAUSE_MS", "60001"), ("STENOLOG_CLOSE_GRACE_S", "soon"),
    ("STENOLOG_CLOSE_GRACE_S", "3601"),
])
def test_the_bounds_of_silence_are_refused_by_name(name: str, wrong: str) -> None:
    """A pause or a grace outside its bounds is an error that names the setting, and 0 is within both (WORD-5)."""
    [problem] = problems_of(**{name: wrong})
    assert problem.startswith(name)
    settings = load({"STENOLOG_PAUSE_MS": "0", "STENOLOG_CLOSE_GRACE_S": "0"}, None)
    assert (edge_settings(settings).pause_ms, edge_settings(settings).close_grace_s) == (0, 0.0)


def test_secrets_are_never_shown() -> None:
    """Neither an error nor the settings' own text holds a key or an address with a password (BATCH-9)."""
    settings = load({"STENOLOG_OPENAI_API_KEY": "s3cret", "REDIS_URL": "redis://:s3cret@host"}, None)
    assert "s3cret" not in f"{settings!r} {settings}"


def test_every_setting_says_group_unit_and_why() -> None:
    """No setting lacks its heading, its unit or a reason, and no default breaks its own bounds."""
    for field in fields():
        assert field.group
        assert field.unit
        assert str(field.meta.description).endswith(".")
        msgspec.convert(field.default, type=field.annotation)


def test_page_is_current() -> None:
    """docs/settings.md is the output of `python -m stenolog.settings`."""
    printed = subprocess.run(
        [sys.executable, "-m", "stenolog.settings"], cwd=ROOT, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"}).stdout
    assert printed == render()
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == printed, "run: make docs"


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("example.test", False), ("", False),  # noqa: S104
])
def test_loopback_is_distinguished_from_the_rest(host: str, *, loopback: bool) -> None:
    """Only addresses that no other machine can reach count as loopback (SAFE-4)."""
    assert is_loopback(host) is loopback
