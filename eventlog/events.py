"""Event types: what clients and edges put into an audio stream, and the facts that a run states.

Wire names are literal and carry their version (``tag``); a change of meaning takes a new name and an
upcaster in `eventlog.codec`. Fields may be added with a default. Positions are samples per channel at the session's
own rate.
"""

from __future__ import annotations

from typing import Any

import msgspec

LINEAR16, CONTAINER = "linear16", "container"
"""`SessionStarted.encoding`: bare PCM of 16-bit little-endian samples, or a container's bytes, to be decoded."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf a recorded file is processed; its tenant is the session's."""

    user_id: str
    account_id: str | None = None


class SessionStarted(_Event, frozen=True, kw_only=True, tag="session_started.v1"):
    """First entry of an audio stream: everything that is fixed for the session's life.

    With `encoding` ``container`` the client's bytes go into an upload stream, and the claim holder decodes them. Then
    `sample_rate_hz` is what it decodes to, and `channels` may be 0: as many as the recording has. The `SourceDescribed`
    that follows says how many, and the start that the session's hash holds is replaced by one that says so too.
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
    """Requests append, any number of them on any replica; else one connection at a time, which counts on that."""
    segmenter: dict[str, Any] = {}
    """The segmenter's settings, version included, as its own JSON object; pinned so that an upgrade changes nothing."""
    started_ms: int = 0
    """Wall clock of the edge, Unix ms."""
    traceparent: str = ""
    """W3C trace context of the request that opened the session; empty if it had none."""
    batch: Batch | None = None
    """It is a recorded file of ``/batch/process``, whose completion outside sinks are told of; else None."""


class Finalized(_Event, frozen=True, kw_only=True, tag="finalized.v1"):
    """The client asks for a boundary here."""


class HoleFound(_Event, frozen=True, kw_only=True, tag="hole_found.v1"):
    """Audio acked earlier is gone and can't be filled: `samples` are missing before this entry's offset."""

    samples: int


class ProvisionalAsked(_Event, frozen=True, kw_only=True, tag="provisional_asked.v1"):
    """Somebody waits for all that can be said of the audio before this: finals, and the open utterance as it stands."""

    request: str
    """Names the answer, which is published on the feed's channel."""


class SourceDescribed(_Event, frozen=True, kw_only=True, tag="source_described.v1"):
    """What a container holds, as its decoder found; the second entry of such a session's audio stream."""

    sample_rate_hz: int
    channels: int
    container: str
    codec: str
    duration_samples: int = 0
    """In all, as the container's own header says; 0 if it doesn't."""


class SessionSealed(_Event, frozen=True, kw_only=True, tag="session_sealed.v1"):
    """Last entry of an audio stream, or of an upload."""

    reason: str
    """``stop`` (the client), ``idle`` (a sweep), ``deleted``, ``limit`` (the longest duration), or ``failed``."""
    offset_samples: int
    """The true offset of the end (of an upload: in bytes), since the entry's id is the largest there is."""
    detail: str = ""
    """Why it failed, for a person; never transcript text."""


AudioEvent = SessionStarted | Finalized | ProvisionalAsked | SourceDescribed | HoleFound | SessionSealed


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


class UtteranceFinal(_Event, frozen=True, kw_only=True, tag="utterance_final.v1"):
    """One utterance, recognised; it never changes."""

    utterance: int
    channel: int
    start_samples: int
    end_samples: int
    decided_samples: int
    """Where in the audio the utterance's end was known."""
    sample_rate_hz: int
    text: str
    confidence: float
    speaker: str
    committed_ms: int = 0


class HoleNoted(_Event, frozen=True, kw_only=True, tag="hole_noted.v1"):
    """Audio from `start_samples` to `end_samples` was lost before it was processed."""

    start_samples: int
    end_samples: int
    sample_rate_hz: int


class SourceNoted(_Event, frozen=True, kw_only=True, tag="source_noted.v1"):
    """What the recording is; see `SourceDescribed`."""

    sample_rate_hz: int
    channels: int
    container: str
    codec: str
    duration_samples: int = 0


class ProgressNoted(_Event, frozen=True, kw_only=True, tag="progress_noted.v1"):
    """The run is this far; stated where some time passes without any other fact."""

    processed_samples: int
    total_samples: int
    """0 if nobody knows: a live stream, or a container that doesn't say."""
    sample_rate_hz: int
    noted_ms: int = 0


class RunQuarantined(_Event, frozen=True, kw_only=True, tag="run_set_aside.v1"):
    """The run can't be processed, or kills whatever does, and isn't offered to workers any more; no end."""

    reason: str
    """For a person; never transcript text."""
    noted_ms: int = 0


class RunRedriven(_Event, frozen=True, kw_only=True, tag="run_redriven.v1"):
    """A run that was set aside is offered to workers again."""

    noted_ms: int = 0


class SessionEnded(_Event, frozen=True, kw_only=True, tag="session_ended.v1"):
    """Last fact of a run."""

    reason: str
    audio_samples: int
    utterances: int
    sample_rate_hz: int
    ended_ms: int = 0
    detail: str = ""
    """Why it failed, for a person; never transcript text."""


Fact = (
    SessionOpened | SourceNoted | UtteranceFinal | HoleNoted | ProgressNoted | RunQuarantined | RunRedriven | SessionEnded
)
