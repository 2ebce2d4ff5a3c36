"""A worker's settings; `stenolog.settings` holds the defaults' reasons for operators."""

from __future__ import annotations

import msgspec

from eventlog.archive.location import ArchiveLocation


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's bounds and intervals.

    Attributes:
        lease_ms: A claim not renewed for this long may be taken over.
        capacity: How many runs it holds at most.
        tick_ms: How often the audio streams are read.
        max_read_bytes: About how much audio one read takes per stream; bounds a catch-up's reply and its work.
        max_pending_utterances: How many utterances of one run may wait for recognition; past it the run is throttled.
        partial_interval_ms: Between two partials of an open utterance, unless the session has its own.
        early_final_ms: Pause after which an open utterance is recognised as the final that it may become; 0: never.
        partials_per_s: How many partials the whole worker publishes at most; past it they thin out.
        idle_ms: A session without audio or keepalive for this long is ended.
        sweep_s: How often the janitor looks for idle sessions, missing entries and silent consumers.
        audio_retention_s: How much processed audio stays behind the checkpoint.
        keeps_unarchived: Whether audio stays until it is archived.
        memory_high_watermark_percent: How full a node may be before processed audio is freed early.
        memory_limit_bytes: The total for that percentage where Redis has no `maxmemory`.
        archive: Where archived sessions are, for replays of them; None if they are not available.
        session_ttl_s: Time to live of every per-session key.
        changes_max_notices: Bound on each partition's `changes` stream.
        suspicion_limit: Deaths over one run without a commit after which it gets a quarantine trial.
        quarantine_trial_timeout_s: How long that trial may take.
        max_decoders: How many containers it decodes at once at most; the others wait in a queue.
        max_decode_ahead_s: How far decoding may be ahead of the checkpoint.
        max_spool_bytes: Bound on an MP4 with its index last, which is kept on disk until it is complete.
        max_upload_ahead_bytes: Bound on the bytes of an upload in the log that its decoder has not taken.
        engine: Names engine and model: workers of the same name share recognition; empty for the recogniser's name.
        shared_recognition: Whether it offers utterances of recordings to other workers, and takes theirs.
        max_shared_utterances: Bound on the sum of recordings past `max_pending_utterances`, if they are shared.
        shared_recognition_lease_ms: After this an utterance that another worker took is offered again.
        queue: The queue of its runs, see `eventlog.keys.QueueKeys`: clients' live runs if empty.
        max_session_s: Audio of one container after which its session is ended.
    """

    lease_ms: int = 5_000
    capacity: int = 1_000
    tick_ms: int = 20
    max_read_bytes: int = 262_144
    max_pending_utterances: int = 8
    partial_interval_ms: int = 1_500
    early_final_ms: int = 330
    partials_per_s: int = 200
    idle_ms: int = 300_000
    sweep_s: float = 30.0
    audio_retention_s: int = 600
    keeps_unarchived: bool = False
    memory_high_watermark_percent: float = 80.0
    memory_limit_bytes: int = 0
    archive: ArchiveLocation | None = None
    session_ttl_s: int = 86_400
    changes_max_notices: int = 100_000
    suspicion_limit: int = 2
    quarantine_trial_timeout_s: float = 120.0
    max_decoders: int = 64
    max_decode_ahead_s: int = 300
    max_spool_bytes: int = 512 << 20
    max_session_s: float = 14_400.0
    max_upload_ahead_bytes: int = 64 << 20
    engine: str = ""
    shared_recognition: bool = True
    max_shared_utterances: int = 64
    shared_recognition_lease_ms: int = 20_000
    queue: str = ""
