"""Opening and resuming: from a checked query string to a session in the log, with its place reserved."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from edge import errors
from edge.auth.access import Principal, unknown_session
from edge.errors import ApiError, ErrorCode
from edge.metrics import EdgeMetrics
from edge.session.memory_throttle import MemoryWatermarks
from edge.session.parameters import Parameters
from edge.session.reservations import Reservation, Reservations
from edge.settings import EdgeSettings
from eventlog.events import CONTAINER, LINEAR16, SessionStarted
from eventlog.keys import Keys, SessionKeys
from eventlog.log import Code, LogFullError, LogUnavailableError, Opened
from eventlog.positions import Position
from eventlog.redis.redis_log import RedisLog
from eventlog.telemetry import tracing

logger = logging.getLogger(__name__)

T = TypeVar("T")

TOKEN_BYTES = 24
"""192 bits: can't be guessed, and short enough for a query string."""

PATIENCE_S = 5.0
"""For Redis to come back while a client waits for its first message; then it is told to try again."""

PAUSE_S = 0.1

DECODED_HZ = 16_000
"""What containers are decoded to: the rate that detector and recognisers work at."""

_REFUSALS: dict[Code, tuple[ErrorCode, str]] = {
    Code.GONE: (errors.UNKNOWN_SESSION, "there is no such session"),
    Code.FORBIDDEN: (errors.INVALID_RESUME_TOKEN, "the resume token is not this session's"),
    Code.SEALED: (errors.SESSION_ENDED, "the session has ended"),
}


class Session(NamedTuple):
    """An opened or resumed session, as its connection needs it."""

    keys: SessionKeys
    stream: SessionKeys
    """Of what the client appends to: the audio's, or the upload's where the client sends a container."""
    epoch: int
    head: Position
    start: SessionStarted
    token: str
    token_hash: str
    next_utterance: int | None
    resumed: bool
    principal: Principal
    """Who opened or resumed it here."""

    @property
    def reservation(self) -> Reservation:
        """What it takes of the limits."""
        return Reservation(self.keys.session_id, self.start.tenant_id)


class Opener:
    """Opens sessions under the deployment's limit."""

    def __init__(
        self, log: RedisLog, keys: Keys, reservations: Reservations, settings: EdgeSettings, metrics: EdgeMetrics,
        *, pressure: MemoryWatermarks,
    ) -> None:  # fmt: skip
        """Open in `log`, reserving in `reservations`, where `pressure` leaves room."""
        self._pressure = pressure
        self._metrics = metrics
        self._log = log
        self._keys = keys
        self._reservations = reservations
        self._settings = settings

    async def open(self, wanted: Parameters, principal: Principal) -> Session:
        """Open what `wanted` describes, or resume what it names, for `principal`.

        Raises:
            ApiError: with what the client is to be told.
        """
        if wanted.session_id is None:
            place = Reservation(self._pressure.new_session_id(), principal.tenant_id)
            return await self._placed(place, lambda: self._create(place.session_id, wanted, principal))
        # Whatever is refused must change nothing, and a resume raises the epoch: so all checks come before it.
        keys = self._keys.of(wanted.session_id)
        there = await self._patiently(lambda: self._log.read_position(keys))
        if there is None or not principal.is_of(there.tenant_id):
            raise unknown_session()
        start = there.start
        _check_same(wanted, start)
        place = Reservation(keys.session_id, there.tenant_id)
        return await self._placed(place, lambda: self._resume(keys, start, wanted, principal))

    async def release(self, place: Reservation) -> None:
        """Free an ended session's place; if Redis is away, it frees itself."""
        try:
            await self._reservations.release([place])
        except LogUnavailableError:
            logger.info("a reservation was not released; it expires", extra={"session_id": place.session_id})

    async def _placed(self, place: Reservation, opening: Callable[[], Awaitable[Session]]) -> Session:
        [reserved] = await self._patiently(lambda: self._reservations.take([place]))
        if reserved is Code.FULL:
            most = self._settings.max_sessions
            raise ApiError(errors.SESSION_LIMIT_EXCEEDED, f"all {most} sessions are taken; try again later")
        if reserved is Code.TENANT_FULL:
            most = self._settings.max_sessions_per_tenant
            raise ApiError(errors.SESSION_LIMIT_EXCEEDED, f"all {most} sessions of your tenant are taken")
        try:
            session = await opening()
        except BaseException:
            # Only a place taken just now: the session may be live on another connection.
            if reserved is Code.OK:
                await self.release(place)
            raise
        self._metrics.opened(resumed=session.resumed)
        logger.info(
            "session resumed" if session.resumed else "session opened",
            extra={
                "session_id": place.session_id, "tenant_id": place.tenant_id, "epoch": session.epoch,
                "trace_id": tracing.trace_id(session.start.traceparent),
            },
        )  # fmt: skip
        return session

    async def _create(self, session_id: str, wanted: Parameters, principal: Principal) -> Session:
        keys = self._keys.of(session_id)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        token_hash = hash_token(token)
        start = self._start(session_id, wanted, principal)
        opened = await self._patiently(lambda: self._log.open(keys, start, token_hash))
        if opened.code is Code.EXISTS:  # an earlier try whose answer was lost: nobody else has this id
            opened = await self._patiently(lambda: self._log.resume(_stream(keys, start), token_hash))
        return _session(keys, opened, token, wanted, principal)

    async def _resume(
        self, keys: SessionKeys, start: SessionStarted, wanted: Parameters, principal: Principal
    ) -> Session:
        token_hash = hash_token(wanted.resume_token)
        opened = await self._patiently(lambda: self._log.resume(_stream(keys, start), token_hash))
        return _session(keys, opened, wanted.resume_token, wanted, principal)

    def _start(self, session_id: str, wanted: Parameters, principal: Principal) -> SessionStarted:
        segmenter = dict(self._settings.segmenter)
        if wanted.hangover_ms is not None:
            segmenter["hangover_ms"] = wanted.hangover_ms
        is_container = wanted.encoding == CONTAINER
        return SessionStarted(
            session_id=session_id,
            sample_rate_hz=DECODED_HZ if is_container else wanted.sample_rate_hz or 16_000,
            channels=wanted.channels or (0 if is_container else 1),
            encoding=wanted.encoding or LINEAR16,
            shared=wanted.shared,
            tenant_id=principal.tenant_id,
            owner_id=principal.subject,
            language=wanted.language or "en",
            engine=self._settings.engine,
            segmenter=segmenter,
            speaker_labels=self._settings.speaker_labels,
            started_ms=time.time_ns() // 1_000_000,
            traceparent=tracing.current.get(),
            batch=wanted.batch,
        )

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + min(PATIENCE_S, self._settings.redis_outage_timeout_s)
        while True:
            try:
                return await call()
            except LogFullError:
                raise ApiError(errors.LOG_UNAVAILABLE, "Redis is full; no new sessions now") from None
            except LogUnavailableError:
                if time.monotonic() >= deadline:
                    raise ApiError(errors.LOG_UNAVAILABLE, "Redis can't be reached now") from None
            await asyncio.sleep(PAUSE_S)


def hash_token(token: str) -> str:
    """What is stored of a resume token. It is random and long, so one round of SHA-256 hides it well."""
    return hashlib.sha256(token.encode()).hexdigest()


def _session(
    keys: SessionKeys, opened: Opened, token: str, wanted: Parameters, principal: Principal
) -> Session:
    if opened.code is not Code.OK or opened.start is None:
        raise ApiError(*_REFUSALS.get(opened.code, (errors.INTERNAL_ERROR, f"the log answered {opened.code.name}")))
    resumed = wanted.session_id is not None
    stream = _stream(keys, opened.start)
    return Session(
        keys, stream, opened.epoch, opened.head, opened.start, token, hash_token(token), wanted.next_utterance,
        resumed, principal,
    )  # fmt: skip


def _stream(keys: SessionKeys, start: SessionStarted) -> SessionKeys:
    return keys.upload if start.encoding == CONTAINER else keys


def _check_same(wanted: Parameters, start: SessionStarted) -> None:
    for name, asked, pinned in (
        ("sample_rate", wanted.sample_rate_hz, start.sample_rate_hz),
        ("encoding", wanted.encoding, start.encoding),
        ("channels", wanted.channels, start.channels),
        ("language", wanted.language, start.language),
    ):
        if asked not in {None, pinned}:
            raise ApiError(errors.SETTINGS_MISMATCH, f"the session was started with {name}={pinned}")
