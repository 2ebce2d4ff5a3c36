"""Settings that a replay pins instead of its session's own, names of runs, and ranges of time."""

import msgspec
import pytest

from eventlog.events import CONTAINER, LINEAR16, SessionStarted
from processor.speech import SegmenterSettings
from stenolog.operations.replay.run_overrides import RunOverrides, checked_name
from stenolog.operations.replay.time_ranges import parse_moment_ms, parse_range

OWN = SessionStarted(
    session_id="s", sample_rate_hz=48_000, channels=2, language="de", engine="whisper", tenant_id="acme",
    encoding=CONTAINER, segmenter=msgspec.to_builtins(SegmenterSettings(hangover_ms=400)), started_ms=5,
)  # fmt: skip
NOW_MS = 1_000_000_000


def test_a_replay_keeps_the_sessions_own_settings() -> None:
    """REPLAY-3: unchanged settings are pinned as the session had them, except that its audio is PCM by now."""
    overrides = RunOverrides.parse([], engine="whisper", language=None)
    assert overrides.over(OWN) == msgspec.structs.replace(OWN, encoding=LINEAR16)


def test_changes_are_laid_over_the_sessions_own() -> None:
    """REPLAY-1: engine, language, labels and single segmenter settings change, and nothing else does."""
    overrides = RunOverrides.parse(
        ["hangover_ms=900", "vad_mode=2", "speaker_labels=hash"], engine="openai:tiny", language="en"
    )
    pinned = overrides.over(OWN)
    assert (pinned.engine, pinned.language, pinned.speaker_labels) == ("openai:tiny", "en", "hash")
    assert pinned.segmenter == OWN.segmenter | {"hangover_ms": 900, "vad_mode": 2}
    assert (pinned.tenant_id, pinned.channels, pinned.started_ms) == ("acme", 2, 5)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("hangover=500", "did you mean hangover_ms"),
        ("version=2", "no run pins 'version'"),
        ("hangover_ms", "needs a value"),
        ("hangover_ms=", "needs a value"),
        ("hangover_ms=long", "a whole number, not 'long'"),
        ("hangover_ms=1", "hangover_ms: at least one frame"),
        ("vad_mode=4", "vad_mode: 0 to 3"),
        ("soft_cut_ms=30000", "soft_cut_ms: at most hard_cut_ms"),
        ("speaker_labels=names", "channel or hash"),
        ("sample_rate_hz=8000", "no run pins 'sample_rate_hz'"),
    ],
)
def test_unknown_and_bad_settings_are_refused(pair: str, words: str) -> None:
    """REPLAY-1: a name or value that no run can honour is refused before anything begins, with a hint."""
    with pytest.raises(ValueError, match=words):
        RunOverrides.parse([pair], engine="mock", language=None)


def test_settings_that_contradict_a_sessions_own_are_refused() -> None:
    """REPLAY-1: a valid setting is refused where it contradicts a session's own."""
    own = msgspec.structs.replace(OWN, segmenter={"hard_cut_ms": 16_000})
    with pytest.raises(ValueError, match="soft_cut_ms: at most hard_cut_ms"):
        RunOverrides.parse(["soft_cut_ms=18000"], engine="mock", language=None).over(own)


@pytest.mark.parametrize("language", ["", "e", "english please", "de DE"])
def test_a_language_is_a_tag(language: str) -> None:
    """REPLAY-1: a language that is no tag is refused."""
    with pytest.raises(ValueError, match="no language tag"):
        RunOverrides.parse([], engine="mock", language=language)


@pytest.mark.parametrize("name", ["live", "", "a b", "a:b", "-x", "ä", "{a}", "a" * 65, "a/b"])
def test_names_that_no_key_could_hold_are_refused(name: str) -> None:
    """REPLAY-1: a run's name is plain, and never that of the client's own run."""
    with pytest.raises(ValueError, match="run"):
        checked_name(name)


@pytest.mark.parametrize("name", ["nightly", "replay-20261122-0712-ab12", "a.b_c-1", "a" * 64])
def test_plain_names_are_taken(name: str) -> None:
    """REPLAY-1: letters, digits, dots, underscores and hyphens name a run."""
    assert checked_name(name) == name


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("90s", NOW_MS - 90_000),
        ("2h", NOW_MS - 7_200_000),
        ("1.5d", NOW_MS - 129_600_000),
        ("1w", NOW_MS - 604_800_000),
        ("1970-01-02T00:00:00Z", 86_400_000),
        ("1970-01-02T02:00+02:00", 86_400_000),
    ],
)
def test_moments_are_ages_or_dates(text: str, expected_ms: int) -> None:
    """REPLAY-1: a time range is given as ages or in ISO 8601."""
    assert parse_moment_ms(text, NOW_MS) == expected_ms


@pytest.mark.parametrize("text", ["", "yesterday", "2 hours", "-2h", "2026-13-01", "99999999999d1"])
def test_other_moments_are_refused(text: str) -> None:
    """REPLAY-1: an unknown form of a moment is refused."""
    with pytest.raises(ValueError, match="no moment"):
        parse_moment_ms(text, NOW_MS)


def test_a_range_of_time_has_open_ends_and_is_not_empty() -> None:
    """REPLAY-1: either end may be missing, and a start that is not before the end is refused."""
    assert parse_range("2h", None, NOW_MS) == (NOW_MS - 7_200_000, None)
    assert parse_range(None, "1h", NOW_MS) == (None, NOW_MS - 3_600_000)
    with pytest.raises(ValueError, match="range of time is empty"):
        parse_range("1h", "1h", NOW_MS)
