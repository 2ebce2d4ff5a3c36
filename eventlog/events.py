"""Event types: the control events of an audio stream, and the facts that a run states.

Wire names are literal and carry their version (``tag``); a change of meaning takes a new name and an upcaster in
`eventlog.codec`. Fields may be added with a default. Positions are samples per channel at the session's own rate.
"""

from __future__ import annotations

from typing import Any

import msgspec

LINEAR16, CONTAINER = "linear16", "container"
"""`SessionStarted.encoding`: bare PCM of 16-bit little-endian samples, or a container's bytes, to be decoded."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The user and account for which a recorded file is processed; its tenant is the session's."""

    user_id: str
    account_id: str | None = None


class SessionStarted(_Event, frozen=True, kw_only=True, tag="session_started.v1"):
    """First entry of an audio stream: all that is fixed for the session's life.

    With `encoding` ``container`` the client's bytes go into an upload stream, and the claim holder decodes them. Then
    `sample_rate_hz` is the rate that it decodes to, and `channels` may be 0: as many as the recording has. The
    `SourceDescribed` that follows has their number, and so has the start that replaces the one in the session's hash.
    """

    session_id: str
    sample_rate_hz: int
    channels: int = 1
    encoding: str = "linear16"
    language: str = "en"
    engine: str = "whisper"
    tenant_id: str = ""
    owner_id: str = ""
    """Subject of the token that opened the session; empty without authentication."""
    speaker_labels: str = "channel"
    """``channel``: one label per channel; ``hash``: drawn from each utterance's samples."""
    shared: bool = False
    """Requests append, any number of them on any replica; else one connection at a time, which relies on that."""
    segmenter: dict[str, Any] = {}
    """The segmenter's settings, version included, as its own JSON object; pinned so that an upgrade changes nothing."""
    started_ms: int = 0
    """Wall clock of the edge, Unix ms."""
    traceparent: str = ""
    """W3C trace context of the request that opened the session; empty if it had none."""
    batch: Batch | None = None
    """Set for a recorded file of ``/batch/process``, whose completion sinks get an event of."""
    model: str = ""
    """One of the models that the deployment offers; empty: its default."""
    terms: tuple[str, ...] = ()
    """Key terms that the speech may name, for the recogniser to prefer."""
    prompt: str = ""
    """Text that the recogniser takes as said before."""
    partial_interval_ms: int = 0
    """Between two partials of an utterance; 0: the worker's setting."""
    layout: str = "auto"
    """Of a recording's two channels: ``split`` and ``mix`` as the client said, ``auto``: judged; `ChannelsJudged`."""
    speech_events: bool = False
    """Whether listeners get ``speech_started`` and ``utterance_end``."""
    numerals: bool = False
    """Whether published texts have numbers as digits."""
    profanity_filter: bool = False
    """Whether published texts have profanities masked."""
    track: int = -1
    """Of a container's audio tracks, from 0; -1: the one that it marks as default, else the first."""
    recorded: bool = False
    """Whether one request brings a recorded file: its decoder may hold samples back to judge all of it."""


class OptionsChanged(_Event, frozen=True, kw_only=True, tag="options_changed.v1"):
    """The client changes options, for utterances whose boundary lies at or after this entry. None: unchanged."""

    language: str | None = None
    terms: tuple[str, ...] | None = None
    prompt: str | None = None
    hangover_ms: int | None = None
    partial_interval_ms: int | None = None


class Paused(_Event, frozen=True, kw_only=True, tag="paused.v1"):
    """The client's frames have stopped, as only the edge's clock can know: an open utterance ends here."""

    silent_ms: int = 0
    """Wall time since the last frame; 0 if the client closed its connection."""


class ChannelsJudged(_Event, frozen=True, kw_only=True, tag="channels_judged.v1"):
    """How a recording's two channels relate, from the samples before this; valid from here on."""

    layout: str
    """``mix``: one talker on both; ``split``: a talker on each."""
    delay_samples: int = 0
    """By which the second channel lags the first, for ``mix``."""
    is_inverted: bool = False
    """Whether the channels have opposite polarity, for ``mix``."""
    is_pinned: bool = False
    """Whether no later one follows."""


class Finalized(_Event, frozen=True, kw_only=True, tag="finalized.v1"):
    """The client asks for a boundary here."""


class HoleFound(_Event, frozen=True, kw_only=True, tag="hole_found.v1"):
    """Audio acked earlier is gone and can't be filled: `samples` are missing before this entry's offset."""

    samples: int


class ProvisionalRequested(_Event, frozen=True, kw_only=True, tag="provisional_asked.v1"):
    """A request waits for the text of the audio before this: finals, and the open utterance's provisional text."""

    request: str
    """Name of the answer, which is published on the feed's channel."""


class SourceDescribed(_Event, frozen=True, kw_only=True, tag="source_described.v1"):
    """A container's content, as its decoder found it; the second entry of such a session's audio stream."""

    sample_rate_hz: int
    channels: int
    container: str
    codec: str
    duration_samples: int = 0
    """In all, by the container's own header; 0 if it has none."""


class SessionSealed(_Event, frozen=True, kw_only=True, tag="session_sealed.v1"):
    """Last entry of an audio stream, or of an upload."""

    reason: str
    """``stop`` (the client), ``closed`` (its connection), ``idle`` (a sweep), ``deleted``, ``limit`` (the longest
    duration), or ``failed``."""
    offset_samples: int
    """The true offset of the end (of an upload: in bytes), since the entry's id is the largest one."""
    detail: str = ""
    """The cause of a failure, for a person; never transcript text."""


AudioEvent = (
    SessionStarted | Finalized | ProvisionalRequested | SourceDescribed | HoleFound | SessionSealed | OptionsChanged
    | Paused | ChannelsJudged
)


class SessionOpened(_Event, frozen=True, kw_only=True, tag="session_opened.v1"):
    """First fact of a run."""

    session_id: str
    run: str
    sample_rate_hz: int
    channels: int
    language: str = "en"
    engine: str = "whisper"
    tenant_id: str = ""
    owner_id: str = ""
    encoding: str = "linear16"
    opened_ms: int = 0
    traceparent: str = ""
    batch: Batch | None = None


class Word(msgspec.Struct, frozen=True, array_like=True):
    """A word of a final as it stands in the text, its punctuation included; stored as an array, for its size."""

    text: str
    start_samples: int
    end_samples: int
    confidence: float


class UtteranceFinal(_Event, frozen=True, kw_only=True, tag="utterance_final.v2"):
    """One utterance, recognised; it never changes."""

    utterance: int
    channel: int
    start_samples: int
    end_samples: int
    decided_samples: int
    """The position in the audio at which the utterance's end was decided."""
    sample_rate_hz: int
    text: str
    confidence: float
    speaker: str
    committed_ms: int = 0
    words: tuple[Word, ...] = ()
    """In order; empty if the recogniser gives no times."""
    language: str = ""
    """Of the text, as asked for or as detected; empty in facts of v1."""
    model: str = ""
    decodes: int = 0
    """How many times the recogniser decoded it; 0: unknown."""
    numerals: bool = False
    """Whether its text is published with numbers as digits; the fact has it as it was recognised."""
    profanity_filter: bool = False
    """Whether its text is published with profanities masked; as above."""


class HoleNoted(_Event, frozen=True, kw_only=True, tag="hole_noted.v1"):
    """Audio from `start_samples` to `end_samples` was lost before it was processed."""

    start_samples: int
    end_samples: int
    sample_rate_hz: int


class SourceNoted(_Event, frozen=True, kw_only=True, tag="source_noted.v1"):
    """The recording's content; see `SourceDescribed`."""

    sample_rate_hz: int
    channels: int
    container: str
    codec: str
    duration_samples: int = 0


class ProgressNoted(_Event, frozen=True, kw_only=True, tag="progress_noted.v1"):
    """The run's progress; stated where some time passes without any other fact."""

    processed_samples: int
    total_samples: int
    """0 if it is unknown: a live stream, or a container without a length."""
    sample_rate_hz: int
    noted_ms: int = 0


# The tag is older than the class's name: a stored name never changes, or older and newer builds could not read each
# other's logs, archives and backups.
class RunQuarantined(_Event, frozen=True, kw_only=True, tag="run_set_aside.v1"):
    """The run can't be processed, or kills its workers, and isn't offered to workers any more; it hasn't ended."""

    reason: str
    """For a person; never transcript text."""
    noted_ms: int = 0


class RunRedriven(_Event, frozen=True, kw_only=True, tag="run_redriven.v1"):
    """A quarantined run is offered to workers again."""

    noted_ms: int = 0


class SessionEnded(_Event, frozen=True, kw_only=True, tag="session_ended.v1"):
    """Last fact of a run."""

    reason: str
    audio_samples: int
    utterances: int
    sample_rate_hz: int
    ended_ms: int = 0
    detail: str = ""
    """The cause of a failure, for a person; never transcript text."""


Fact = (
    SessionOpened | SourceNoted | UtteranceFinal | HoleNoted | ProgressNoted | RunQuarantined | RunRedriven
    | SessionEnded
)
