"""Every error that a client can get: one table for WebSocket and HTTP, from which the docs are made."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

PROBLEM_JSON = "application/problem+json"
"""Media type of an HTTP error (RFC 9457)."""


class ErrorCode(NamedTuple):
    """One row of the table."""

    code: str
    close: int
    """WebSocket close code; 0 where the socket stays open."""
    status: int
    """HTTP status of the same error; 0 where no request can meet it."""
    meaning: str
    """Markdown; the same for every occurrence."""
    advice: str

    @property
    def fatal(self) -> bool:
        """Whether the socket closes after it."""
        return self.close != 0

    @property
    def type(self) -> str:
        """The URI that names the error for machines: stable, and independent of the host that answers."""
        return f"urn:stenolog:error:{self.code}"

    @property
    def title(self) -> str:
        """The meaning as plain text."""
        return self.meaning.replace("`", "")


_CORRECT_QUERY = "Correct the query string."
_SESSION_CONTINUES = "The session continues; the message changed nothing."

INVALID_SAMPLE_RATE = ErrorCode("invalid_sample_rate", 1008, 400, "`sample_rate` is not supported.", _CORRECT_QUERY)
INVALID_ENCODING = ErrorCode(
    "invalid_encoding", 1008, 400, "`encoding` is neither `linear16` nor `container`.", _CORRECT_QUERY
)
INVALID_CHANNELS = ErrorCode(
    "invalid_channels", 1008, 400, "`channels` is neither 1, 2, `mix`, `split` nor `auto`.", _CORRECT_QUERY
)
INVALID_TRACK = ErrorCode("invalid_track", 1008, 400, "`track` is not a whole number below 100.", _CORRECT_QUERY)
INVALID_LANGUAGE = ErrorCode(
    "invalid_language", 1008, 400, "`language` is neither a tag such as `en` or `pt-BR` nor `auto`.", _CORRECT_QUERY
)
UNSUPPORTED_LANGUAGE = ErrorCode(
    "unsupported_language", 1008, 400, "No worker of the deployment can recognise the `language`.",
    "Choose one of those that the message names.",
)
UNSUPPORTED_MODEL = ErrorCode(
    "unsupported_model", 1008, 400, "No worker of the deployment has the `model`.",
    "Omit it, or choose one of those that the message names.",
)
INVALID_OPTION = ErrorCode(
    "invalid_option", 1008, 400, "An option of the session is malformed or exceeds its bounds; the message names it.",
    _CORRECT_QUERY,
)
INVALID_CONFIGURATION = ErrorCode(
    "invalid_configuration", 0, 400, "A change of options is malformed, or asks for what no worker offers.",
    "Correct the change as the message says; the former options hold.",
)
INVALID_HANGOVER = ErrorCode(
    "invalid_hangover", 1008, 400, "`endpointing_ms` (or `hangover_ms`) is not a whole number from 100 to 5000.",
    _CORRECT_QUERY,
)
INVALID_NEXT_UTTERANCE = ErrorCode(
    "invalid_next_utterance", 1008, 400, "`next_utterance` is not a whole number.", _CORRECT_QUERY
)
INVALID_SESSION_ID = ErrorCode(
    "invalid_session_id", 1008, 400, "`session_id` is missing or not a UUID.", _CORRECT_QUERY
)
INVALID_RESUME_TOKEN = ErrorCode(
    "invalid_resume_token", 1008, 403, "`resume_token` is missing or belongs to another session.",
    "Resume with the token of `session_start`.",
)
SETTINGS_MISMATCH = ErrorCode(
    "settings_mismatch", 1008, 409, "The resumed session has another sample rate, encoding, channel count or language.",
    "Omit them when resuming.",
)
UNKNOWN_SESSION = ErrorCode(
    "unknown_session", 1008, 404, "The session does not exist: never opened, expired or deleted.",
    "Start a new session.",
)
SESSION_ENDED = ErrorCode(
    "session_ended", 1008, 409, "The session has ended: it cannot be resumed and accepts no more audio.",
    "Fetch its transcript; start a new session.",
)
SESSION_GONE = ErrorCode(
    "session_gone", 1008, 410, "The session was deleted, or Redis lost it, during the connection.",
    "Start a new session.",
)
SUPERSEDED = ErrorCode(
    "superseded", 1008, 409, "A newer connection has resumed the session.", "Nothing: the newer connection continues."
)
SESSION_LIMIT_EXCEEDED = ErrorCode(
    "session_limit_exceeded", 1013, 429, "The deployment, or the tenant, has as many sessions as it may have.",
    "Try again later.",
)
LOG_UNAVAILABLE = ErrorCode(
    "log_unavailable", 1013, 503, "Redis accepts no writes at the moment; the message names the last acked offset.",
    "Resume after a while, and send the audio that was not acked again.",
)
MEMORY_FULL = ErrorCode(
    "memory_full", 1013, 503, "Redis is nearly full: it accepts no new sessions, or no audio, at the moment.",
    "Try again after a while; resume an open session as after `log_unavailable`.",
)
GOING_AWAY = ErrorCode(
    "going_away", 1012, 503, "This replica is shutting down.", "Resume at once; another replica takes over."
)
SLOW_CONSUMER = ErrorCode(
    "slow_consumer", 1008, 0, "The client reads more slowly than messages arrive for it.",
    "Resume with `next_utterance`, and read faster.",
)
TOO_MANY_ERRORS = ErrorCode(
    "too_many_errors", 1008, 0, "The connection sent too many invalid messages.",
    "Correct the client; the session can be resumed.",
)
INTERNAL_ERROR = ErrorCode(
    "internal_error", 1011, 500, "The server has a defect; its log has the details.", "Resume, or report it."
)
INVALID_JSON = ErrorCode("invalid_json", 0, 0, "A text frame is not a JSON object with a `type`.", _SESSION_CONTINUES)
UNKNOWN_TYPE = ErrorCode("unknown_type", 0, 0, "A text frame has an unknown `type`.", _SESSION_CONTINUES)
ALREADY_STARTED = ErrorCode(
    "already_started", 0, 0, "`start` arrived on a connection whose query string already gave the options.",
    _SESSION_CONTINUES,
)
FRAME_TOO_LARGE = ErrorCode(
    "frame_too_large", 0, 0, "A binary frame is larger than `max_frame_bytes`; all of it was dropped.",
    "Send it again in smaller frames.",
)
MISALIGNED_AUDIO = ErrorCode(
    "misaligned_audio", 0, 0, "The audio ended within a sample; the incomplete sample was dropped.", _SESSION_CONTINUES
)
SESSION_CLOSING = ErrorCode(
    "session_closing", 0, 0, "A frame arrived after `stop`; it was dropped.", "Wait for `session_end`."
)
UNAUTHORIZED = ErrorCode(
    "unauthorized", 1008, 401, "The token is missing, malformed, expired, or signed by an unknown issuer.",
    "Ask your issuer for a new token.",
)
TOKEN_EXPIRED = ErrorCode(
    "token_expired", 1008, 0, "The token expired `STENOLOG_AUTH_GRACE_S` ago, and the connection is still open.",
    "Resume with a new token.",
)
FORBIDDEN = ErrorCode(
    "forbidden", 1008, 403, "The token's scopes do not allow this operation.",
    "Use a token with the scope that the message names.",
)
INVALID_AUDIO = ErrorCode(
    "invalid_audio", 1008, 422, "The recording cannot be decoded: unsupported format, truncated, or damaged.",
    "Send WAV, FLAC, MP3, Ogg, WebM or MP4, or raw PCM; the message says which error the decoder found.",
)
TOO_LARGE = ErrorCode(
    "too_large", 0, 413, "The upload, or a part of the request, exceeds its limit.",
    "Send it in parts, or send a shorter recording.",
)
INVALID_OFFSET = ErrorCode(
    "invalid_offset", 0, 409, "The chunk begins after the end of the session's audio; the message names that end.",
    "Send the audio from that offset.",
)
INVALID_REQUEST = ErrorCode(
    "invalid_request", 0, 400, "The request's body or one of its headers is malformed.",
    "Correct the request as the message says.",
)
TRANSPORT_MISMATCH = ErrorCode(
    "transport_mismatch", 0, 409, "The session receives its audio by WebSocket, and accepts none by HTTP requests.",
    "Open a session with `POST /live/start`.",
)
TOO_MANY_REQUESTS = ErrorCode(
    "too_many_requests", 1013, 429, "The tenant made more requests than it may in a minute.",
    "Wait as long as `Retry-After` says.",
)
TOO_MANY_LISTENERS = ErrorCode(
    "too_many_listeners", 0, 429, "The user, or this process, has as many event streams open as it may have.",
    "Close some, or wait as long as `Retry-After` says.",
)
INVALID_ORIGIN = ErrorCode(
    "invalid_origin", 1008, 403, "The request comes from a page whose origin is not allowed.",
    "Have the origin added to `STENOLOG_ALLOWED_ORIGINS`.",
)
SESSION_TOO_LONG = ErrorCode(
    "session_too_long", 0, 409, "The session reached its longest duration and was ended there.",
    "Start a new session for the rest.",
)
QUARANTINED = ErrorCode(
    "quarantined", 0, 422, "The session cannot be processed, or repeatedly crashed workers, and was quarantined.",
    "Nothing: its audio is kept, and an operator can redrive it (docs/quarantine.md).",
)
NOT_ACCEPTABLE = ErrorCode(
    "not_acceptable", 0, 406, "The transcript is not available in any of the accepted formats.",
    "Accept JSON, plain text, SRT or WebVTT.",
)
INVALID_ADDRESS = ErrorCode(
    "invalid_address", 0, 422, "The webhook's address is malformed, not public, or not `https://`.",
    "Give another address; the message names the reason.",
)
UNKNOWN_RUN = ErrorCode("unknown_run", 0, 404, "The session has no such run.", "See the session's `runs`.")
UNKNOWN_WEBHOOK = ErrorCode(
    "unknown_webhook", 0, 404, "The tenant has no such subscription.", "List the tenant's subscriptions."
)
WEBHOOK_LIMIT_EXCEEDED = ErrorCode(
    "webhook_limit_exceeded", 0, 409, "The tenant has as many subscriptions as it may have.", "Delete one."
)
NOT_FOUND = ErrorCode("not_found", 0, 404, "The path does not exist.", "See `/openapi.json`.")
METHOD_NOT_ALLOWED = ErrorCode(
    "method_not_allowed", 0, 405, "The path does not support the method.", "See `/openapi.json`."
)
INVALID_QUERY = ErrorCode("invalid_query", 0, 400, "A query parameter of an HTTP request is malformed.", _CORRECT_QUERY)

TABLE: tuple[ErrorCode, ...] = tuple(value for value in list(globals().values()) if isinstance(value, ErrorCode))


def read_failure(detail: str) -> tuple[ErrorCode, str]:
    """The error, and its message, of a session that failed with `detail`, which may begin with an error's code."""
    code, separator, message = detail.partition(": ")
    for error in (UNSUPPORTED_LANGUAGE, UNSUPPORTED_MODEL):
        if separator and code == error.code:
            return error, message
    return INVALID_AUDIO, detail or "the recording cannot be decoded"


class ApiError(Exception):
    """An error that is reported to the client."""

    def __init__(self, error: ErrorCode, message: str, *, retry_after_s: int | None = None) -> None:
        """`message` is for a person; it holds no transcript text. `retry_after_s` goes into an HTTP answer's header."""
        super().__init__(message)
        self.error = error
        self.message = message
        self.retry_after_s = retry_after_s


class Problem(msgspec.Struct, kw_only=True):
    """The body of an HTTP error (RFC 9457), with our code as an extension member."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def problem(error: ErrorCode, detail: str, status: int = 0) -> Problem:
    """Build the body of an HTTP error; `status` is the table's unless given."""
    return Problem(
        type=error.type, title=error.title, status=status or error.status or 500, detail=detail, code=error.code
    )


def error_message(error: ErrorCode, message: str) -> str:
    """The JSON that a WebSocket client gets."""
    body = {"type": "error", "code": error.code, "message": message, "fatal": error.fatal}
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
