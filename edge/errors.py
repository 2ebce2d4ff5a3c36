"""Everything that can go wrong on the wire: one table for WebSocket and HTTP, from which the docs are made."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class ErrorCode(NamedTuple):
    """One row of the table."""

    code: str
    close: int
    """WebSocket close code; 0 where the socket stays open."""
    status: int
    """HTTP status of the same trouble; 0 where it can't come up there."""
    meaning: str
    advice: str

    @property
    def fatal(self) -> bool:
        """The socket is closed after it."""
        return self.close != 0


_CHANGE = "Correct the query string."
_GOES_ON = "The session goes on; the message changed nothing."

INVALID_SAMPLE_RATE = ErrorCode("invalid_sample_rate", 1008, 400, "`sample_rate` is none of the supported ones.", _CHANGE)
INVALID_ENCODING = ErrorCode("invalid_encoding", 1008, 400, "`encoding` is neither `linear16` nor `container`.", _CHANGE)
INVALID_CHANNELS = ErrorCode("invalid_channels", 1008, 400, "`channels` isn't 1 or 2.", _CHANGE)
INVALID_LANGUAGE = ErrorCode("invalid_language", 1008, 400, "`language` is no tag such as `en` or `pt-BR`.", _CHANGE)
INVALID_HANGOVER = ErrorCode("invalid_hangover", 1008, 400, "`hangover_ms` isn't a whole number from 100 to 5000.", _CHANGE)
INVALID_NEXT_UTTERANCE = ErrorCode("invalid_next_utterance", 1008, 400, "`next_utterance` isn't a whole number.", _CHANGE)
INVALID_SESSION_ID = ErrorCode("invalid_session_id", 1008, 400, "`session_id` isn't a UUID, or is missing.", _CHANGE)
INVALID_RESUME_TOKEN = ErrorCode(
    "invalid_resume_token", 1008, 403, "`resume_token` is missing or isn't this session's.",
    "Resume with the token of `session_start`.",
)
SETTINGS_MISMATCH = ErrorCode(
    "settings_mismatch", 1008, 409, "The resumed session has another rate, encoding, channels or language.",
    "Leave them out when resuming.",
)
UNKNOWN_SESSION = ErrorCode(
    "unknown_session", 1008, 404, "There is no such session: never opened, expired or deleted.", "Start a new one."
)
SESSION_ENDED = ErrorCode(
    "session_ended", 1008, 409, "The session has ended: it can't be resumed and takes no more audio.",
    "Fetch its transcript; start a new one.",
)
SESSION_GONE = ErrorCode(
    "session_gone", 1008, 410, "The session was deleted, or lost by Redis, while connected.", "Start a new one."
)
SUPERSEDED = ErrorCode(
    "superseded", 1008, 409, "A newer connection has resumed the session.", "Nothing: the newer connection goes on."
)
SESSION_LIMIT_EXCEEDED = ErrorCode(
    "session_limit_exceeded", 1013, 429, "All replicas together have `max_sessions` sessions.", "Try again later."
)
LOG_UNAVAILABLE = ErrorCode(
    "log_unavailable", 1013, 503, "Redis can't be written now; the message names the last acked offset.",
    "Resume after a while and send what was not acked.",
)
MEMORY_FULL = ErrorCode(
    "memory_full", 1013, 503, "Redis is nearly full: no new sessions are taken, or no audio for now.",
    "Try again after a while; a session that goes on resumes as after `log_unavailable`.",
)
GOING_AWAY = ErrorCode(
    "going_away", 1012, 503, "This replica shuts down.", "Resume at once; another replica takes over."
)
SLOW_CONSUMER = ErrorCode(
    "slow_consumer", 1008, 0, "The client reads slower than its messages come.",
    "Resume with `next_utterance`, and read on.",
)
TOO_MANY_ERRORS = ErrorCode(
    "too_many_errors", 1008, 0, "Too many bad messages on one connection.",
    "Correct the client; the session can be resumed.",
)
INTERNAL_ERROR = ErrorCode(
    "internal_error", 1011, 500, "A defect of the server, logged there.", "Resume, or report it."
)
INVALID_JSON = ErrorCode("invalid_json", 0, 0, "A text frame isn't a JSON object with a `type`.", _GOES_ON)
UNKNOWN_TYPE = ErrorCode("unknown_type", 0, 0, "A text frame's `type` isn't known.", _GOES_ON)
ALREADY_STARTED = ErrorCode(
    "already_started", 0, 0, "`start` came on a connection whose options the query string already gave.", _GOES_ON
)
FRAME_TOO_LARGE = ErrorCode(
    "frame_too_large", 0, 0, "A binary frame is over `max_frame_bytes`; nothing of it was taken.",
    "Send it again in smaller frames.",
)
MISALIGNED_AUDIO = ErrorCode(
    "misaligned_audio", 0, 0, "The audio ended within a sample; the incomplete one was dropped.", _GOES_ON
)
SESSION_CLOSING = ErrorCode(
    "session_closing", 0, 0, "A frame came after `stop`; it was dropped.", "Wait for `session_end`."
)
UNAUTHORIZED = ErrorCode(
    "unauthorized", 1008, 401, "There is no token, or it is malformed, expired, or signed by nobody we know.",
    "Ask your issuer for a new token.",
)
TOKEN_EXPIRED = ErrorCode(
    "token_expired", 1008, 0, "The token expired `STENOLOG_AUTH_GRACE_S` ago, and the connection is still open.",
    "Resume with a new token.",
)
FORBIDDEN = ErrorCode("forbidden", 1008, 403, "The token's scopes don't allow this.", "Use a token that has the scope.")
INVALID_AUDIO = ErrorCode(
    "invalid_audio", 1008, 422, "The recording can't be decoded: not a format that is taken, cut off, or damaged.",
    "Send WAV, FLAC, MP3, Ogg, WebM or MP4, or bare PCM; the message says what was found.",
)
TOO_LARGE = ErrorCode(
    "too_large", 0, 413, "The upload, or the request, is over its bound.", "Send it in parts, or a shorter one."
)
INVALID_OFFSET = ErrorCode(
    "invalid_offset", 0, 409, "The chunk doesn't begin where the session's audio ends; the message says where that is.",
    "Send from there.",
)
INVALID_REQUEST = ErrorCode("invalid_request", 0, 400, "The request's body or a header is malformed.", "See the message.")
WEBSOCKET_SESSION = ErrorCode(
    "websocket_session", 0, 409, "The session is fed by a WebSocket, and takes no audio from requests.",
    "Open one with `POST /live/start`.",
)
TOO_MANY_REQUESTS = ErrorCode(
    "too_many_requests", 1013, 429, "More requests than the tenant may make in a minute.",
    "Wait as long as `Retry-After` says.",
)
TOO_MANY_LISTENERS = ErrorCode(
    "too_many_listeners", 0, 429, "More event streams than a user, or this process, may have open.",
    "Close some, or wait as long as `Retry-After` says.",
)
INVALID_ORIGIN = ErrorCode(
    "invalid_origin", 1008, 403, "The page that asks is of an origin that isn't allowed.",
    "Have its origin added to `STENOLOG_ALLOWED_ORIGINS`.",
)
SESSION_TOO_LONG = ErrorCode(
    "session_too_long", 0, 409, "The session has as much audio as one may have; it is ended here.",
    "Start a new session for what follows.",
)
QUARANTINED = ErrorCode(
    "quarantined", 0, 422, "The session can't be processed, or kept crashing workers, and was quarantined.",
    "None: its audio is kept, and an operator can redrive it (docs/quarantine.md).",
)
NOT_ACCEPTABLE = ErrorCode(
    "not_acceptable", 0, 406, "The transcript isn't to be had in any of the formats asked for.",
    "Ask for JSON, plain text, SRT or WebVTT.",
)
INVALID_ADDRESS = ErrorCode(
    "invalid_address", 0, 422, "Nothing is sent to the address of a webhook: not `https://`, not public, or malformed.",
    "Give another one; the message says what is wrong.",
)
UNKNOWN_RUN = ErrorCode("unknown_run", 0, 404, "The session has no such run.", "See the session's `runs`.")
UNKNOWN_WEBHOOK = ErrorCode(
    "unknown_webhook", 0, 404, "The tenant has no such subscription.", "List those that there are."
)
WEBHOOK_LIMIT_EXCEEDED = ErrorCode(
    "webhook_limit_exceeded", 0, 409, "The tenant has as many subscriptions as it may have.", "Delete one."
)
NOT_FOUND = ErrorCode("not_found", 0, 404, "No such address.", "See docs/websocket.md.")
METHOD_NOT_ALLOWED = ErrorCode(
    "method_not_allowed", 0, 405, "The address has no such method.", "See docs/websocket.md."
)
INVALID_QUERY = ErrorCode("invalid_query", 0, 400, "A query parameter of an HTTP request is malformed.", _CHANGE)

TABLE: tuple[ErrorCode, ...] = tuple(value for value in list(globals().values()) if isinstance(value, ErrorCode))


class ApiError(Exception):
    """A trouble that the client is told about."""

    def __init__(self, trouble: ErrorCode, message: str, *, retry_after_s: int | None = None) -> None:
        """`message` is for a person; it holds no transcript text. `retry_after_s` goes into an HTTP answer's header."""
        super().__init__(message)
        self.trouble = trouble
        self.message = message
        self.retry_after_s = retry_after_s


def error_message(trouble: ErrorCode, message: str) -> str:
    """The JSON that a WebSocket client gets."""
    body = {"type": "error", "code": trouble.code, "message": message, "fatal": trouble.fatal}
    return msgspec.json.encode(body).decode()


def table_markdown() -> str:
    """The error table of docs/websocket.md."""
    head = "| code | fatal | close | HTTP | meaning | what to do |\n|---|---|---|---|---|---|\n"
    rows = (
        f"| `{row.code}` | {'yes' if row.fatal else 'no'} | {row.close or ''} | {row.status or ''} "
        f"| {row.meaning} | {row.advice} |\n"
        for row in TABLE
    )
    return head + "".join(rows)
