"""Opens and resumes sessions: from a checked query string to a session in the log, with its reservation."""

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
from edge.session.memory_watermarks import MemoryWatermarks
from edge.session.offered_abilities import OfferedAbilities
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
"""192 bits: beyond guessing, and short enough for a query string."""

RETRY_TIMEOUT_S = 5.0
"""For Redis to come back while a client waits for its first message; then the client gets `log_unavailable`."""

RETRY_PAUSE_S = 0.1

DEFAULT_LANGUAGE = "en"

DECODED_HZ = 16_000
"""The rate that containers are decoded to, at which detector and recognisers work."""

_REFUSALS: dict[Code, tuple[ErrorCode, str]] = {
    Code.GONE: (errors.UNKNOWN_SESSION, "the session does not exist"),
    Code.FORBIDDEN: (errors.INVALID_RESUME_TOKEN, "the resume token is not this session's"),
    Code.SEALED: (errors.SESSION_ENDED, "the session has ended"),
}


class Session(NamedTuple):
    """An opened or resumed session, as its connection needs it."""

    keys: SessionKeys
    stream: SessionKeys
    """The keys of the log that the client appends to: the audio's, or the upload's if the client sends a container."""
    epoch: int
    head: Position
    start: SessionStarted
    token: str
    token_hash: str
    next_utterance: int | None
    is_resumed: bool
    principal: Principal
    """The client that opened or resumed it here."""

    @property
    def reservation(self) -> Reservation:
        """Its share of the limits."""
        return Reservation(self.keys.session_id, self.start.tenant_id)


class Opener:
    """Opens sessions under the deployment's limit."""

    def __init__(
        self, log: RedisLog, keys: Keys, reservations: Reservations, settings: EdgeSettings, metrics: EdgeMetrics,
        *, watermarks: MemoryWatermarks, abilities: OfferedAbilities,
    ) -> None:  # fmt: skip
        """Open in `log`, reserving in `reservations`, on nodes to which `watermarks` leave room.

        A session that none of the `abilities` on offer fits is refused.
        """
        self._abilities = abilities
        self._watermarks = watermarks
        self._metrics = metrics
        self._log = log
        self._keys = keys
        self._reservations = reservations
        self._settings = settings

    async def open(self, wanted: Parameters, principal: Principal) -> Session:
        """Open the session that `wanted` describes, or resume the one that it names, for `principal`.

        Raises:
            ApiError: the client's error.
        """
        if wanted.session_id is None:
            self._abilities.check(wanted.language or DEFAULT_LANGUAGE, wanted.model)
            reservation = Reservation(self._watermarks.draw_session_id(), principal.tenant_id)
            return await self._reserved(reservation, lambda: self._create(reservation.session_id, wanted, principal))
        # A refusal must change nothing, and a resume raises the epoch: so all checks come before it.
        keys = self._keys.of(wanted.session_id)
        found = await self._retrying(lambda: self._log.read_position(keys))
        if found is None or not principal.is_of(found.tenant_id):
            raise unknown_session()
        start = found.start
        _check_same(wanted, start)
        reservation = Reservation(keys.session_id, found.tenant_id)
        return await self._reserved(reservation, lambda: self._resume(keys, start, wanted, principal))

    async def release(self, reservation: Reservation) -> None:
        """Free an ended session's reservation; if Redis is away, it expires by itself."""
        try:
            await self._reservations.release([reservation])
        except LogUnavailableError:
            logger.info("reservation not released; it expires", extra={"session_id": reservation.session_id})

    async def _reserved(self, reservation: Reservation, opening: Callable[[], Awaitable[Session]]) -> Session:
        [reserved] = await self._retrying(lambda: self._reservations.take([reservation]))
        if reserved is Code.FULL:
            limit = self._settings.max_sessions
            raise ApiError(errors.SESSION_LIMIT_EXCEEDED, f"all {limit} sessions are taken; try again later")
        if reserved is Code.TENANT_FULL:
            limit = self._settings.max_sessions_per_tenant
            raise ApiError(errors.SESSION_LIMIT_EXCEEDED, f"all {limit} sessions of your tenant are taken")
        try:
            session = await opening()
        except BaseException:
            # Only one taken just now: the session may be live on another connection.
            if reserved is Code.OK:
                await self.release(reservation)
            raise
        self._metrics.count_opened(is_resumed=session.is_resumed)
        logger.info(
            "session resumed" if session.is_resumed else "session opened",
            extra={
                "session_id": reservation.session_id, "tenant_id": reservation.tenant_id, "epoch": session.epoch,
                "trace_id": tracing.trace_id(session.start.traceparent),
            },
        )  # fmt: skip
        return session

    async def _create(self, session_id: str, wanted: Parameters, principal: Principal) -> Session:
        keys = self._keys.of(session_id)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        token_hash = hash_token(token)
        start = self._start(session_id, wanted, principal)
        opened = await self._retrying(lambda: self._log.open(keys, start, token_hash))
        if opened.code is Code.EXISTS:  # an earlier try whose answer was lost: no other session has this id
            opened = await self._retrying(lambda: self._log.resume(_stream(keys, start), token_hash))
        return _session(keys, opened, token, wanted, principal)

    async def _resume(
        self, keys: SessionKeys, start: SessionStarted, wanted: Parameters, principal: Principal
    ) -> Session:
        token_hash = hash_token(wanted.resume_token)
        opened = await self._retrying(lambda: self._log.resume(_stream(keys, start), token_hash))
        return _session(keys, opened, wanted.resume_token, wanted, principal)

    def _start(self, session_id: str, wanted: Parameters, principal: Principal) -> SessionStarted:
        segmenter = dict(self._settings.segmenter)
        if wanted.hangover_ms is not None:
            segmenter["hangover_ms"] = wanted.hangover_ms
        is_container = wanted.encoding == CONTAINER
        return SessionStarted(
            session_id=session_id,
            sample_rate_hz=DECODED_HZ if is_container else wanted.sample_rate_hz or 16_000,
            channels=_channels(wanted, is_container=is_container),
            layout=wanted.layout or "auto",
            encoding=wanted.encoding or LINEAR16,
            shared=wanted.shared,
            tenant_id=principal.tenant_id,
            owner_id=principal.subject,
            language=wanted.language or DEFAULT_LANGUAGE,
            model=wanted.model,
            terms=wanted.terms,
            prompt=wanted.prompt,
            partial_interval_ms=wanted.partial_interval_ms or 0,
            numerals=wanted.numerals,
            profanity_filter=wanted.profanity_filter,
            speech_events=wanted.speech_events,
            engine=self._settings.engine,
            segmenter=segmenter,
            speaker_labels=self._settings.speaker_labels,
            started_ms=time.time_ns() // 1_000_000,
            traceparent=tracing.current.get(),
            batch=wanted.batch,
            track=-1 if wanted.track is None else wanted.track,
            recorded=wanted.recorded,
        )

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + min(RETRY_TIMEOUT_S, self._settings.redis_outage_timeout_s)
        while True:
            try:
                return await call()
            except LogFullError:
                raise ApiError(errors.LOG_UNAVAILABLE, "Redis is full; no new sessions now") from None
            except LogUnavailableError:
                if time.monotonic() >= deadline:
                    raise ApiError(errors.LOG_UNAVAILABLE, "Redis can't be reached now") from None
            await asyncio.sleep(RETRY_PAUSE_S)


def hash_token(token: str) -> str:
    """Return the form in which a resume token is stored. It is random and long: one round of SHA-256 hides it well."""
    return hashlib.sha256(token.encode()).hexdigest()


def _session(
    keys: SessionKeys, opened: Opened, token: str, wanted: Parameters, principal: Principal
) -> Session:
    if opened.code is not Code.OK or opened.start is None:
        raise ApiError(*_REFUSALS.get(opened.code, (errors.INTERNAL_ERROR, f"the log answered {opened.code.name}")))
    return Session(
        keys, _stream(keys, opened.start), opened.epoch, opened.head, opened.start, token, hash_token(token),
        wanted.next_utterance, wanted.session_id is not None, principal,
    )  # fmt: skip


def _stream(keys: SessionKeys, start: SessionStarted) -> SessionKeys:
    return keys.upload if start.encoding == CONTAINER else keys


def _channels(wanted: Parameters, *, is_container: bool) -> int:
    """How many channels the audio has; 0 for as many as the recording has."""
    if wanted.channels is not None:
        return wanted.channels
    if is_container:
        return 0
    if wanted.layout in {"mix", "auto"}:
        message = f"channels={wanted.layout} is of containers: of raw samples give their number, 1 or 2"
        raise ApiError(errors.INVALID_CHANNELS, message)
    return 1 if wanted.layout is None else 2


def _check_same(wanted: Parameters, start: SessionStarted) -> None:
    for name, requested, pinned in (
        ("sample_rate", wanted.sample_rate_hz, start.sample_rate_hz),
        ("encoding", wanted.encoding, start.encoding),
        ("channels", wanted.channels, start.channels),
        ("layout", wanted.layout, start.layout),
        ("language", wanted.language, start.language),
    ):
        if requested not in {None, pinned}:
            raise ApiError(errors.SETTINGS_MISMATCH, f"the session was started with {name}={pinned}")
