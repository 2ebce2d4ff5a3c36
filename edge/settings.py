"""The settings of an edge process; the wiring fills them from the deployment's."""

from __future__ import annotations

from typing import Any

import msgspec


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One edge's bounds and intervals; docs/settings.md gives the reason for each default."""

    name: str = "edge"
    """Of this process, unique among the edges: its field in the heartbeats."""
    version: str = ""
    max_sessions: int = 1000
    max_sessions_per_tenant: int = 0
    requests_per_minute: int = 6000
    ticket_ttl_s: int = 60
    auth_grace_s: float = 3600.0
    allowed_origins: tuple[str, ...] = ()
    reservation_ttl_s: float = 60.0
    flush_ms: float = 10.0
    flush_bytes: int = 1_048_576
    ack_interval_ms: float = 250.0
    max_frame_bytes: int = 1_048_576
    max_unacked_bytes: int = 1_048_576
    resend_buffer_s: float = 5.0
    max_outbox_messages: int = 256
    redis_outage_timeout_s: float = 30.0
    memory_high_watermark_percent: float = 80.0
    memory_critical_watermark_percent: float = 90.0
    memory_limit_bytes: int = 0
    session_end_timeout_s: float = 10.0
    result_timeout_s: float = 60.0
    batch_timeout_s: float = 300.0
    mock_tenant_id: str = ""
    mock_user_id: str = ""
    max_upload_bytes: int = 2_147_483_648
    max_upload_ahead_bytes: int = 64 << 20
    max_session_s: float = 14_400.0
    pause_ms: int = 2_000
    close_grace_s: float = 10.0
    webhook_allow_private: bool = False
    ready_stale_s: float = 15.0
    sse_keepalive_s: float = 15.0
    max_sse_listeners: int = 10_000
    max_sse_listeners_per_user: int = 100
    max_sse_buffer_bytes: int = 65_536
    sse_slow_timeout_s: float = 10.0
    ready_lag_s: float = 30.0
    engine: str = "whisper"
    speaker_labels: str = "channel"
    segmenter: dict[str, Any] = {}
    """Pinned into each session's start event; ``hangover_ms`` of the query string replaces its own."""
