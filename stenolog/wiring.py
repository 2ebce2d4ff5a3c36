"""From settings to the objects of each role."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator

import msgspec

from edge.settings import EdgeSettings
from eventlog.archive.location import ArchiveLocation
from eventlog.log import LogUnavailableError
from eventlog.redis.durability import Durability, check_durability, find_fatal, parse_durability
from eventlog.redis.server import DeploymentMismatchError, Server, Tls, connect
from eventlog.work.heartbeats import process_name
from processor.recognisers import Recogniser, load
from processor.settings import WorkerSettings
from processor.speech import SegmenterSettings
from stenolog import __version__
from stenolog.local.embedded import running_url
from stenolog.settings import Settings

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""A role that starts beside its Redis, or while that is restarted, waits this long for it."""

CONNECT_PAUSE_S = 0.25
"""Between two tries; a start of Redis takes about as long."""


def redis_url(settings: Settings) -> str:
    """The Redis to use: the one that is set, or the embedded one of a running `stenolog up` on the same directory.

    Raises:
        LogUnavailableError: if there is neither.
    """
    if settings.redis_url is not None:
        return settings.redis_url
    url = running_url(settings.data_dir)
    if url is None:
        raise LogUnavailableError(
            f"no REDIS_URL is set, and no `stenolog up` runs with --data {settings.data_dir}; start one, or set it"
        )
    return url


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Server]:
    """A connection to the deployment's Redis, closed at the end.

    Raises:
        LogUnavailableError: if Redis can't be reached for a while.
        DeploymentMismatchError: if the deployment has another number of partitions.
    """
    tls = Tls(settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)
    server = await _connected(redis_url(settings), settings.partitions, tls)
    try:
        yield server
    finally:
        await server.close()


async def _connected(url: str, partitions: int, tls: Tls) -> Server:
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            return await connect(url, partitions=partitions, tls=tls)
        except LogUnavailableError as error:
            if time.monotonic() > deadline:
                raise
            logger.info("waiting for Redis", extra={"error": error})
            await asyncio.sleep(CONNECT_PAUSE_S)


async def durable(server: Server, settings: Settings) -> Durability:
    """What acks promise, as the settings have it.

    Raises:
        DeploymentMismatchError: if Redis is seen not to give that.
    """
    asked = parse_durability(
        settings.durability, timeout_ms=settings.durability_timeout_ms, on_shortfall=settings.durability_on_shortfall
    )
    if refused := find_fatal(asked, await check_durability(server, asked)):
        raise DeploymentMismatchError(refused)
    return asked


def segmenter_settings(settings: Settings) -> SegmenterSettings:
    """How new sessions are cut into utterances."""
    return SegmenterSettings(vad_mode=settings.vad_mode, hangover_ms=settings.hangover_ms)


def archive_place(settings: Settings) -> ArchiveLocation | None:
    """Where the archive is; None if there is none."""
    if not settings.archive_url:
        return None
    return ArchiveLocation(
        url=settings.archive_url, region=settings.aws_region, endpoint_url=settings.aws_endpoint_url,
        encryption=settings.archive_encryption,
    )  # fmt: skip


def worker_settings(settings: Settings) -> WorkerSettings:
    """A worker's part of the settings."""
    return WorkerSettings(
        lease_ms=settings.lease_ms,
        capacity=settings.worker_capacity,
        tick_ms=settings.worker_tick_ms,
        max_read_bytes=settings.max_read_bytes,
        max_pending_utterances=settings.max_pending_utterances,
        partial_interval_ms=settings.partial_interval_ms,
        partials_per_s=settings.partials_per_s,
        idle_ms=settings.idle_timeout_s * 1000,
        sweep_s=settings.idle_sweep_s,
        audio_retention_s=settings.audio_retention_s if settings.audio_retention == "time" else 0,
        keeps_unarchived=settings.audio_retention == "archived",
        memory_high_watermark_percent=settings.memory_high_watermark_percent,
        memory_limit_bytes=settings.memory_limit_bytes,
        archive=archive_place(settings),
        session_ttl_s=settings.session_ttl_s,
        changes_max_notices=settings.changes_max_notices,
        suspicion_limit=settings.suspicion_limit,
        quarantine_trial_timeout_s=settings.quarantine_trial_timeout_s,
        max_decoders=settings.max_decoders,
        max_decode_ahead_s=settings.max_decode_ahead_s,
        max_spool_bytes=settings.max_spool_bytes,
        max_session_s=settings.max_session_s,
        max_upload_ahead_bytes=settings.max_upload_ahead_bytes,
        # Another model gives other words, so only workers with the same one share.
        engine=f"{settings.engine}:{settings.model}" if settings.model else settings.engine,
        shared_recognition=settings.shared_recognition,
        max_shared_utterances=settings.max_shared_utterances,
        shared_recognition_lease_ms=settings.shared_recognition_lease_ms,
    )


REPLAYS_AT_ONCE = 4
"""Runs that one worker of replays has at a time: while one is committed the next is read, and batches find partners."""

REPLAY_READ_BYTES = 524_288
"""A read of a replay's audio: 16 s of 16 kHz mono, which holds Redis up for less than a millisecond."""

REPLAY_PENDING = 16
"""Utterances of a replay that may wait: two batches' worth of commits, so that reading doesn't wait for them."""


def replayer_settings(settings: Settings) -> WorkerSettings:
    """The part of a worker of replays: throughput counts, nobody waits for captions."""
    usual = worker_settings(settings)
    return msgspec.structs.replace(
        usual, queue=usual.engine, capacity=min(usual.capacity, REPLAYS_AT_ONCE),
        max_read_bytes=max(usual.max_read_bytes, REPLAY_READ_BYTES),
        max_pending_utterances=max(usual.max_pending_utterances, REPLAY_PENDING),
        # Among themselves: workers for clients have better to do.
        engine=f"{usual.engine}-replayed",
    )  # fmt: skip


def edge_settings(settings: Settings) -> EdgeSettings:
    """An edge's part of the settings."""
    return EdgeSettings(
        name=process_name(),
        version=__version__,
        max_sessions=settings.max_sessions,
        max_sessions_per_tenant=settings.max_sessions_per_tenant,
        requests_per_minute=settings.requests_per_minute,
        ticket_ttl_s=settings.ticket_ttl_s,
        auth_grace_s=settings.auth_grace_s,
        allowed_origins=settings.allowed_origins,
        reservation_ttl_s=settings.reservation_ttl_s,
        flush_ms=settings.flush_ms,
        flush_bytes=settings.flush_bytes,
        ack_interval_ms=settings.ack_interval_ms,
        max_frame_bytes=settings.max_frame_bytes,
        max_unacked_bytes=settings.max_unacked_bytes,
        resend_buffer_s=settings.resend_buffer_s,
        max_outbox_messages=settings.max_outbox_messages,
        redis_outage_timeout_s=settings.redis_outage_timeout_s,
        memory_high_watermark_percent=settings.memory_high_watermark_percent,
        memory_critical_watermark_percent=settings.memory_critical_watermark_percent,
        memory_limit_bytes=settings.memory_limit_bytes,
        session_end_timeout_s=settings.session_end_timeout_s,
        result_timeout_s=settings.result_timeout_s,
        batch_timeout_s=settings.batch_timeout_s,
        mock_tenant_id=settings.mock_tenant_id,
        mock_user_id=settings.mock_user_id,
        max_upload_ahead_bytes=settings.max_upload_ahead_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        webhook_allow_private=settings.webhook_allow_private,
        max_session_s=settings.max_session_s,
        ready_stale_s=settings.ready_stale_s,
        sse_keepalive_s=settings.sse_keepalive_s,
        max_sse_listeners=settings.max_sse_listeners,
        max_sse_listeners_per_user=settings.max_sse_listeners_per_user,
        max_sse_buffer_bytes=settings.max_sse_buffer_bytes,
        sse_slow_timeout_s=settings.sse_slow_timeout_s,
        ready_lag_s=settings.ready_lag_s,
        engine=settings.engine,
        speaker_labels=settings.speaker_labels,
        segmenter=msgspec.to_builtins(segmenter_settings(settings)),
    )


def recogniser(settings: Settings, *, use_cores: int = 0) -> Recogniser:
    """The recogniser that the settings name, ready to work; takes seconds for a model.

    It makes use of so many cores at once, of all that there are if 0.

    Raises:
        RecogniserError: if there is none of that name, or it can't work as it is set.
    """
    given: dict[str, dict[str, object]] = {
        "mock": {},
        "whisper": {
            "model": settings.model, "cpu_threads": settings.whisper_cpu_threads,
            "max_parallel": max(1, (use_cores or cores()) // settings.whisper_cpu_threads),
            "max_batch": settings.max_batch_clips,
        },
        "openai": {
            "base_url": settings.openai_base_url.rstrip("/").removesuffix("/v1"), "api_key": settings.openai_api_key,
            "model": settings.model, "timeout_s": settings.openai_timeout_s,
        },
    }
    chosen = given.get(settings.engine, {"model": settings.model} if settings.model else {})
    # An empty value means the recogniser's own default.
    return load(settings.engine, **{name: value for name, value in chosen.items() if value != ""})


def cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
