"""Results of AWS's answers, and log records about them: no text that AWS echoes ends up in a log. Pure."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event

REJECTED_CODES = frozenset({"MalformedDetail", "InvalidArgument"})
"""Codes of an entry that the service never takes, however often it comes. Other codes that it calls "non-retryable" are
an operator's to fix (rights, account, source): the event is retried, and goes to the dead letters after the bound."""

BLAME_CODES = frozenset({"ValidationException", "RequestEntityTooLarge", "413"})
"""Errors of a whole request for which one of its entries may be to blame."""

MOST_CHARACTERS = 300
"""Of a message in a log: the service's own words are shorter, an echoed event is not."""

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_KEY_ID = re.compile(r"\bA[A-Z]{3}[A-Z0-9]{12,124}\b")  # access key ids: AKIA…, ASIA…
_HIDDEN = "…"

_logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """A failed call, fit for a log.

    Attributes:
        code: The service's, or the type of the error.
        message: Without values, keys and secrets.
        blames_entry: Whether one of several entries may be the cause.
        stack: Where it was raised.
    """

    code: str
    message: str
    blames_entry: bool
    stack: str


def read_result(answer: dict[str, Any]) -> Result:
    """The result of an entry, by its part of PutEvents' answer."""
    if code := answer.get("ErrorCode"):
        code = _safe_code(code)
        return Result(Outcome.REJECTED if code in REJECTED_CODES else Outcome.RETRY, f"EventBridge: {code}")
    return SENT if answer.get("EventId") else Result(Outcome.RETRY, "EventBridge: an answer without an event id")


def read_failure(error: Exception, secrets: Iterable[str] = ()) -> Failure:
    """Describe a failed call for a log; `secrets` are masked wherever they stand."""
    response = getattr(error, "response", None)
    known = response.get("Error", {}) if isinstance(response, dict) else {}
    if known:
        code = _safe_code(known.get("Code"))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        message = without_values(str(known.get("Message", "")))
        blames_entry = code in BLAME_CODES or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    else:
        code, message = type(error).__name__, _sdk_message(error)
        blames_entry = code == "ParamValidationError"
    for secret in filter(None, secrets):
        message = message.replace(secret, _HIDDEN)
    stack = "".join(traceback.format_tb(error.__traceback__))
    return Failure(code, _KEY_ID.sub(_HIDDEN, message)[:MOST_CHARACTERS], blames_entry, stack)


def log_fields(event: Event, source: str) -> dict[str, Any]:
    """The fields that name an event in a log: its ids, source and type."""
    return {
        "interaction_id": event.session_id, "event_id": event.event_id, "source": source,
        "detail_type": str(event.kind),
    }  # fmt: skip


def log_lengths(event: Event) -> dict[str, int]:
    """The lengths of a body's texts in characters, which a log may hold in place of the texts."""
    data = event.body.get("data")
    found = data.items() if isinstance(data, dict) else ()
    return {f"{name}_characters": len(text) for name, text in found if isinstance(text, str)}


def log_failure(message: str, failure: Failure, events: Iterable[dict[str, Any]]) -> None:
    """Log a failure once for each event that it met, or once if it met none; the stack without the error's own text."""
    for fields in [*events] or [{}]:
        about = {"error_type": failure.code, "error": failure.message, "stack": failure.stack}
        _logger.warning(message, extra={**fields, **about})


def without_values(message: str) -> str:
    """Cut the service's message before the first value that it may echo: a quotation, an object, another line."""
    return re.split(r"""['"\[{\n\r]""", message, maxsplit=1)[0].strip()[:MOST_CHARACTERS]


def _safe_code(code: object) -> str:
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "an unknown code"


def _sdk_message(error: Exception) -> str:
    """The SDK's own message: addresses and names, but not the answer of a source of credentials."""
    name = type(error).__name__
    if name == "ParamValidationError":
        return "a parameter is not valid"
    if name in {"CredentialRetrievalError", "MetadataRetrievalError"}:
        return f"asking {getattr(error, 'kwargs', {}).get('provider', 'the metadata service')} for credentials failed"
    return str(error)
