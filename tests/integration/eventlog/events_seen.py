"""One event of every kind and version, as the golden files hold them, and strategies for any."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from eventlog.events import (
    CONTAINER,
    AudioEvent,
    Batch,
    ChannelsJudged,
    Fact,
    Finalized,
    HoleFound,
    HoleNoted,
    OptionsChanged,
    Paused,
    ProgressNoted,
    ProvisionalRequested,
    RunQuarantined,
    RunRedriven,
    SessionEnded,
    SessionOpened,
    SessionSealed,
    SessionStarted,
    SourceDescribed,
    SourceNoted,
    UtteranceFinal,
    Word,
)

SESSION_ID = "7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
CLOCK_MS = 1_767_225_600_000
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
END_SAMPLES = 2**53 + 1  # past what a double holds, so that a lossy codec shows

# By golden file; "least" has only what the first build of that version had to write.
AUDIO_EVENTS: dict[str, AudioEvent] = {
    "session_started.v1": SessionStarted(
        session_id=SESSION_ID, sample_rate_hz=48_000, channels=2, encoding="linear16", language="de", engine="mock",
        tenant_id="t1", segmenter={"version": 1, "mode": 1, "hangover_ms": 700}, started_ms=CLOCK_MS,
    ),
    "session_started.v1.least": SessionStarted(session_id=SESSION_ID, sample_rate_hz=16_000),
    "session_started.v1.upload": SessionStarted(
        session_id=SESSION_ID, sample_rate_hz=16_000, channels=0, encoding=CONTAINER, tenant_id="t1", owner_id="ana",
        speaker_labels="hash",
    ),
    "session_started.v1.traced": SessionStarted(
        session_id=SESSION_ID, sample_rate_hz=16_000, traceparent=TRACEPARENT,
    ),
    "session_started.v1.shared": SessionStarted(session_id=SESSION_ID, sample_rate_hz=16_000, shared=True),
    "session_started.v1.batch": SessionStarted(
        session_id=SESSION_ID, sample_rate_hz=16_000, channels=0, encoding=CONTAINER, tenant_id="t1",
        batch=Batch(user_id="ana", account_id="a7"),
    ),
    "session_started.v1.options": SessionStarted(
        session_id=SESSION_ID, sample_rate_hz=16_000, channels=0, encoding=CONTAINER, language="auto", model="large",
        terms=("Dashwood", "Norland Park"), prompt="A novel.", partial_interval_ms=500, layout="mix",
        speech_events=True, numerals=True, profanity_filter=True,
    ),
    "session_started.v1.recorded": SessionStarted(
        session_id=SESSION_ID, sample_rate_hz=16_000, channels=0, encoding=CONTAINER, track=1, recorded=True,
    ),
    "options_changed.v1": OptionsChanged(
        language="de", terms=("Müller",), prompt="", hangover_ms=300, partial_interval_ms=2000,
    ),
    "options_changed.v1.least": OptionsChanged(),
    "paused.v1": Paused(silent_ms=2000),
    "paused.v1.least": Paused(),
    "channels_judged.v1": ChannelsJudged(layout="mix", delay_samples=-5, is_inverted=True, is_pinned=True),
    "channels_judged.v1.least": ChannelsJudged(layout="split"),
    "finalized.v1": Finalized(),
    "provisional_asked.v1": ProvisionalRequested(request="r1"),
    "source_described.v1": SourceDescribed(
        sample_rate_hz=16_000, channels=2, container="matroska", codec="opus", duration_samples=160_000,
    ),
    "source_described.v1.least": SourceDescribed(sample_rate_hz=16_000, channels=1, container="wav", codec="pcm_s16le"),
    "hole_found.v1": HoleFound(samples=1600),
    "session_sealed.v1": SessionSealed(reason="stop", offset_samples=END_SAMPLES),
    "session_sealed.v1.failed": SessionSealed(reason="failed", offset_samples=0, detail="no audio in it"),
}  # fmt: skip
FACTS: dict[str, Fact] = {
    "session_opened.v1": SessionOpened(
        session_id=SESSION_ID, run="live", sample_rate_hz=48_000, channels=2, language="de", engine="mock",
        tenant_id="t1", opened_ms=CLOCK_MS,
    ),
    "session_opened.v1.least": SessionOpened(session_id=SESSION_ID, run="live", sample_rate_hz=16_000, channels=1),
    "session_opened.v1.upload": SessionOpened(
        session_id=SESSION_ID, run="live", sample_rate_hz=16_000, channels=0, tenant_id="t1", owner_id="ana",
        encoding=CONTAINER,
    ),
    "session_opened.v1.traced": SessionOpened(
        session_id=SESSION_ID, run="live", sample_rate_hz=16_000, channels=1, traceparent=TRACEPARENT,
    ),
    "session_opened.v1.batch": SessionOpened(
        session_id=SESSION_ID, run="live", sample_rate_hz=16_000, channels=0, encoding=CONTAINER, tenant_id="t1",
        batch=Batch(user_id="system"),
    ),
    "source_noted.v1": SourceNoted(
        sample_rate_hz=16_000, channels=2, container="matroska", codec="opus", duration_samples=160_000,
    ),
    "source_noted.v1.least": SourceNoted(sample_rate_hz=16_000, channels=1, container="wav", codec="pcm_s16le"),
    "progress_noted.v1": ProgressNoted(
        processed_samples=80_000, total_samples=160_000, sample_rate_hz=16_000, noted_ms=CLOCK_MS,
    ),
    "utterance_final.v1": UtteranceFinal(
        utterance=7, channel=1, start_samples=20_160, end_samples=148_800, decided_samples=172_800,
        sample_rate_hz=48_000, text='Grüße, "Ana" \u2028 \U0001f44b', confidence=0.93, speaker="2",
        committed_ms=CLOCK_MS,
    ),
    "utterance_final.v1.least": UtteranceFinal(
        utterance=0, channel=0, start_samples=0, end_samples=1, decided_samples=1, sample_rate_hz=16_000, text="yes",
        confidence=0.5, speaker="1",
    ),
    "utterance_final.v2": UtteranceFinal(
        utterance=7, channel=1, start_samples=20_160, end_samples=148_800, decided_samples=172_800,
        sample_rate_hz=48_000, text='Grüße, "Ana"', confidence=0.93, speaker="2", committed_ms=CLOCK_MS,
        words=(Word("Grüße,", 24_000, 48_000, 0.9), Word('"Ana"', 48_000, 144_000, 1.0)), language="de",
        model="large", decodes=2,
    ),
    "utterance_final.v2.published": UtteranceFinal(
        utterance=0, channel=0, start_samples=0, end_samples=16_000, decided_samples=16_000, sample_rate_hz=16_000,
        text="twenty", confidence=0.5, speaker="1", language="en", numerals=True, profanity_filter=True,
    ),
    "utterance_final.v2.least": UtteranceFinal(
        utterance=0, channel=0, start_samples=0, end_samples=1, decided_samples=1, sample_rate_hz=16_000, text="yes",
        confidence=0.5, speaker="1",
    ),
    "hole_noted.v1": HoleNoted(start_samples=1600, end_samples=4800, sample_rate_hz=16_000),
    "run_set_aside.v1": RunQuarantined(reason="it kept killing workers", noted_ms=CLOCK_MS),
    "run_set_aside.v1.least": RunQuarantined(reason="its entry 17-1 can't be read"),
    "run_redriven.v1": RunRedriven(noted_ms=CLOCK_MS),
    "run_redriven.v1.least": RunRedriven(),
    "session_ended.v1": SessionEnded(
        reason="idle", audio_samples=END_SAMPLES, utterances=8, sample_rate_hz=48_000, ended_ms=CLOCK_MS,
    ),
    "session_ended.v1.failed": SessionEnded(
        reason="failed", audio_samples=0, utterances=0, sample_rate_hz=16_000, ended_ms=CLOCK_MS,
        detail="no audio in it",
    ),
    "session_ended.v1.least": SessionEnded(reason="stop", audio_samples=0, utterances=0, sample_rate_hz=16_000),
}  # fmt: skip

_texts = st.text(st.characters(codec="utf-8"))
_counts = st.integers(0, 2**63 - 1)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _floats | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_terms = st.lists(_texts, max_size=3).map(tuple)
_by_type: dict[object, st.SearchStrategy[object]] = {
    str: _texts, int: _counts, float: _floats, bool: st.booleans(), str | None: st.none() | _texts,
    int | None: st.none() | _counts, tuple[str, ...]: _terms, tuple[str, ...] | None: st.none() | _terms,
    tuple[Word, ...]: st.lists(st.builds(Word, _texts, _counts, _counts, _floats), max_size=3).map(tuple),
    dict[str, Any]: st.dictionaries(_texts, _json, max_size=3),
    Batch | None: st.none() | st.builds(Batch, user_id=_texts, account_id=st.none() | _texts),
}  # fmt: skip


def _any_of(kind: type[AudioEvent | Fact]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: _by_type[field.type] for field in msgspec.structs.fields(kind)})


any_audio_event = st.one_of([_any_of(type(event)) for event in AUDIO_EVENTS.values()])
any_fact = st.one_of([_any_of(type(event)) for event in FACTS.values()])
