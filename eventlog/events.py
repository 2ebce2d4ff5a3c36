"""Event types: what clients and edges put into an audio stream, and the facts that a run states.

Wire names are literal and carry their version (``tag``); a change of meaning takes a new name and an
upcaster in `eventlog.codec`. Fields may be added with a default. Positions are samples per channel at the session's
own rate.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events."""


class SessionStarted(_Event, frozen=True, kw_only=True, tag="session_started.v1"):
    """First entry of an audio stream: everything that is fixed for the session's life."""

    session_id: str
    sample_rate_hz: int
    channels: int = 1
    encoding: str = "linear16"
    language: str = "en"
    engine: str = "whisper"
    tenant_id: str = ""
    segmenter: dict[str, Any] = {}
    """The segmenter's settings, version included, as its own JSON object; pinned so that an upgrade changes nothing."""
    started_ms: int = 0
    """Wall clock of the edge, Unix ms."""


class Finalized(_Event, frozen=True, kw_only=True, tag="finalized.v1"):
    """The client asks for a boundary here."""


class HoleFound(_Event, frozen=True, kw_only=True, tag="hole_found.v1"):
    """Audio acked earlier is gone and can't be filled: `samples` are missing before this entry's offset."""

    samples: int


class SessionSealed(_Event, frozen=True, kw_only=True, tag="session_sealed.v1"):
    """Last entry of an audio stream."""

    reason: str
    """``stop`` (the client), ``idle`` (a sweep), ``deleted``, or ``failed``."""
    offset_samples: int
    """The true offset of the end, since the entry's id is the largest there is."""


AudioEvent = SessionStarted | Finalized | HoleFound | SessionSealed


class SessionOpened(_Event, frozen=True, kw_only=True, tag="session_opened.v1"):
    """First fact of a run."""

    session_id: str
    run: str
    sample_rate_hz: int
    channels: int
    language: str = "en"
    engine: str = "whisper"
    tenant_id: str = ""
    opened_ms: int = 0


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


class SessionEnded(_Event, frozen=True, kw_only=True, tag="session_ended.v1"):
    """Last fact of a run."""

    reason: str
    audio_samples: int
    utterances: int
    sample_rate_hz: int
    ended_ms: int = 0


Fact = SessionOpened | UtteranceFinal | HoleNoted | SessionEnded
