"""From settings to the objects of each role."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from edge.settings import EdgeSettings
from eventlog.archive.location import ArchiveLocation
from eventlog.log import LogUnavailableError
from eventlog.redis.durability import Durability, check_durability, find_fatal, parse_durability
from eventlog.redis.server import DeploymentMismatchError, Server, Tls, connect
from eventlog.work.heartbeats import process_name
from processor.recognisers import Recogniser, RecogniserError, load
from processor.settings import WorkerSettings
from processor.speech import SegmenterSettings
from stenolog import __version__
from stenolog.errors import UserError
from stenolog.local.embedded import running_url
from stenolog.settings import Settings

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
"""A role that starts beside its Redis, or while that restarts, waits this long for it."""

CONNECT_PAUSE_S = 0.25
"""Between two tries; a start of Redis takes about as long."""


def find_redis(settings: Settings) -> str | None:
    """The Redis that is set, or the embedded one of a running `stenolog up` on the same directory; None if neither."""
    return settings.redis_url if settings.redis_url is not None else running_url(settings.data_dir)


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Server]:
    """A connection to the deployment's Redis, closed at the end.

    Raises:
        UserError: if no Redis is set or runs.
        LogUnavailableError: if Redis can't be reached for a while.
        DeploymentMismatchError: if the deployment has another number of partitions.
    """
    url = find_redis(settings)
    if url is None:
        raise UserError(
            f"this needs Redis: set REDIS_URL, or start `stenolog up`; none runs with --data {settings.data_dir}"
        )
    server = await _connect(url, settings.partitions, redis_tls(settings))
    try:
        yield server
    finally:
        await server.close()


def redis_tls(settings: Settings) -> Tls:
    """The certificates for a `rediss://` address."""
    return Tls(settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)


async def _connect(url: str, partitions: int, tls: Tls) -> Server:
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            return await connect(url, partitions=partitions, tls=tls)
        except LogUnavailableError as error:
            if time.monotonic() > deadline:
                raise
            logger.info("waiting for Redis", extra={"error": error})
            await asyncio.sleep(CONNECT_PAUSE_S)


async def durable(server: Server, settings: Settings) -> Durability:
    """The durability that acks promise.

    Raises:
        DeploymentMismatchError: if Redis does not give it.
    """
    durability = parse_durability(
        settings.durability, timeout_ms=settings.durability_timeout_ms, on_shortfall=settings.durability_on_shortfall
    )
    if refused := find_fatal(durability, await check_durability(server, durability)):
        raise DeploymentMismatchError(refused)
    return durability


def segmenter_settings(settings: Settings) -> SegmenterSettings:
    """How new sessions are cut into utterances."""
    return SegmenterSettings(vad_mode=settings.vad_mode, hangover_ms=settings.hangover_ms)


def archive_place(settings: Settings) -> ArchiveLocation | None:
    """The archive's place; None if none is set."""
    if not settings.archive_url:
        return None
    return ArchiveLocation(
        url=settings.archive_url, region=settings.aws_region, endpoint_url=settings.aws_endpoint_url,
        encryption=settings.archive_encryption,
    )  # fmt: skip


def worker_settings(settings: Settings) -> WorkerSettings:
    """A worker's part of the settings: the fields of the same name, and those that are called or counted otherwise."""
    return WorkerSettings(**_same_named(settings, WorkerSettings) | {
        "capacity": settings.worker_capacity,
        "tick_ms": settings.worker_tick_ms,
        "idle_ms": settings.idle_timeout_s * 1000,
        "sweep_s": settings.idle_sweep_s,
        "audio_retention_s": settings.audio_retention_s if settings.audio_retention == "time" else 0,
        "keeps_unarchived": settings.audio_retention == "archived",
        "archive": archive_place(settings),
        # Another model gives other words, so only workers with the same one share.
        "engine": f"{settings.engine}:{settings.model}" if settings.model else settings.engine,
    })  # fmt: skip


REPLAY_CAPACITY = 4
"""Runs that one worker of replays has at a time: while one is committed the next is read, and batches find partners."""

REPLAY_READ_BYTES = 524_288
"""A read of a replay's audio: 16 s of 16 kHz mono, which holds Redis up for less than a millisecond."""

REPLAY_PENDING_UTTERANCES = 16
"""Utterances of a replay that may wait: two batches' worth of commits, so that reading doesn't wait for them."""


def replayer_settings(settings: Settings) -> WorkerSettings:
    """The part of a worker of replays: throughput counts, since no client waits for captions."""
    usual = worker_settings(settings)
    return msgspec.structs.replace(
        usual, queue=usual.engine, capacity=min(usual.capacity, REPLAY_CAPACITY),
        max_read_bytes=max(usual.max_read_bytes, REPLAY_READ_BYTES),
        max_pending_utterances=max(usual.max_pending_utterances, REPLAY_PENDING_UTTERANCES),
        # Among themselves: workers for clients have better to do.
        engine=f"{usual.engine}-replayed",
    )  # fmt: skip


def edge_settings(settings: Settings) -> EdgeSettings:
    """An edge's part of the settings: the fields of the same name, and what it states of itself."""
    return EdgeSettings(**_same_named(settings, EdgeSettings) | {
        "name": process_name(),
        "version": __version__,
        "segmenter": msgspec.to_builtins(segmenter_settings(settings)),
    })  # fmt: skip


def _same_named(settings: Settings, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The settings that a part has a field of the same name for."""
    return {name: getattr(settings, name) for name in kind.__struct_fields__ if hasattr(settings, name)}


GPU_CALLS = 2
"""At once: one call's samples are prepared while the GPU works on another's. Larger batches use it better than more
calls do, each of which has memory of its own there."""


def recogniser(settings: Settings, *, use_cores: int = 0) -> Recogniser:
    """The recogniser that the settings name, ready to work; takes seconds for a model.

    It uses so many cores at once, all of them if 0.

    Raises:
        RecogniserError: if it does not exist, or can't work with these settings.
    """
    _require_device(settings)
    given: dict[str, dict[str, object]] = {
        "mock": {},
        "whisper": _whisper(settings, use_cores or cores()) if settings.engine == "whisper" else {},
        "openai": {
            "base_url": settings.openai_base_url.rstrip("/").removesuffix("/v1"), "api_key": settings.openai_api_key,
            "model": settings.model, "timeout_s": settings.openai_timeout_s,
        },
    }
    chosen = given.get(settings.engine, {"model": settings.model} if settings.model else {})
    # Empty and 0 mean the recogniser's own default.
    return load(settings.engine, **{name: value for name, value in chosen.items() if value not in {"", 0}})


def _whisper(settings: Settings, use_cores: int) -> dict[str, object]:
    """The keywords of the Whisper recogniser, which itself chooses unset ones by device."""
    is_on_gpu = settings.whisper_device == "cuda" or (settings.whisper_device == "auto" and _gpus() > 0)
    on_cores = max(1, use_cores // settings.whisper_cpu_threads)
    return {
        "model": settings.model, "cpu_threads": settings.whisper_cpu_threads,
        "max_parallel": GPU_CALLS if is_on_gpu else on_cores, "max_batch": settings.max_batch_clips,
        "device": settings.whisper_device, "device_index": settings.whisper_device_index,
        "compute_type": settings.whisper_compute_type.replace("auto", ""), "beam": settings.whisper_beam,
        "batch_context_s": settings.whisper_batch_s,
    }  # fmt: skip


def _gpus() -> int:
    """How many GPUs CTranslate2 finds."""
    try:
        from ctranslate2 import get_cuda_device_count  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise RecogniserError("faster-whisper is not installed: install stenolog[whisper]", retryable=False) from error
    return int(get_cuda_device_count())


def _require_device(settings: Settings) -> None:
    """Check that the GPU that the settings ask for is there, before a model is loaded for it.

    Raises:
        RecogniserError: if it is not.
    """
    if settings.engine != "whisper" or settings.whisper_device != "cuda":
        return
    count, index = _gpus(), settings.whisper_device_index
    if not count:
        message = "STENOLOG_WHISPER_DEVICE is cuda, and CTranslate2 finds no GPU here: install the driver, or set cpu"
        raise RecogniserError(message, retryable=False)
    if index >= count:
        message = f"STENOLOG_WHISPER_DEVICE_INDEX is {index}, and CTranslate2 finds {count} GPUs here, counted from 0"
        raise RecogniserError(message, retryable=False)


def cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
