"""What the service's answers mean, and how they may be told: nothing that it echoes ends up in a log. Pure."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from typing import Any, NamedTuple

from projections.forwarding.sink import SENT, Outcome, Verdict

NEVER_CODES = frozenset({"MalformedDetail", "InvalidArgument"})
"""What the service says of an entry that it won't take however often it comes. What it also calls "non-retryable" but
who runs this can mend (rights, account, source) is tried on, and goes to the dead letters after the bound."""

BLAME_CODES = frozenset({"ValidationException", "RequestEntityTooLarge", "413"})
"""Errors of a whole request for which one of its entries may be to blame."""

MOST_CHARACTERS = 300
"""Of a message in a log: what the service has to say is shorter, what it echoes is not."""

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_KEY_ID = re.compile(r"\bA[A-Z]{3}[A-Z0-9]{12,124}\b")  # access key ids: AKIA…, ASIA…
_HIDDEN = "…"


class Trouble(NamedTuple):
    """A failed call, as it may be told.

    Attributes:
        code: The service's, or the type of the error.
        message: Without values, keys and secrets.
        blame: Whether one of several entries may be the cause.
        stack: Where it came up.
    """

    code: str
    message: str
    blame: bool
    stack: str


def verdict_of(answer: dict[str, Any]) -> Verdict:
    """What became of an entry, by its part of PutEvents' answer."""
    if code := answer.get("ErrorCode"):
        code = _safe_code(code)
        return Verdict(Outcome.NEVER if code in NEVER_CODES else Outcome.LATER, f"EventBridge: {code}")
    return SENT if answer.get("EventId") else Verdict(Outcome.LATER, "EventBridge: an answer without an event id")


def trouble_of(error: Exception, secrets: Iterable[str] = ()) -> Trouble:
    """A failed call as it may be told; `secrets` are struck out wherever they stand."""
    response = getattr(error, "response", None)
    known = response.get("Error", {}) if isinstance(response, dict) else {}
    if known:
        code = _safe_code(known.get("Code"))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        message, blame = without_values(str(known.get("Message", ""))), code in BLAME_CODES or status == 413  # noqa: PLR2004 - content too large
    else:
        code, message, blame = type(error).__name__, _own_words(error), type(error).__name__ == "ParamValidationError"
    for secret in filter(None, secrets):
        message = message.replace(secret, _HIDDEN)
    stack = "".join(traceback.format_tb(error.__traceback__))
    return Trouble(code, _KEY_ID.sub(_HIDDEN, message)[:MOST_CHARACTERS], blame, stack)


def without_values(message: str) -> str:
    """What the service says, up to the first value that it may echo: a quotation, an object, another line."""
    return re.split(r"""['"\[{\n\r]""", message, maxsplit=1)[0].strip()[:MOST_CHARACTERS]


def _safe_code(code: object) -> str:
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "an unknown code"


def _own_words(error: Exception) -> str:
    """What the SDK itself says: addresses and names, but not what a source of credentials had answered."""
    name = type(error).__name__
    if name == "ParamValidationError":
        return "a parameter is not valid"
    if name in {"CredentialRetrievalError", "MetadataRetrievalError"}:
        return f"asking {getattr(error, 'kwargs', {}).get('provider', 'the metadata service')} for credentials failed"
    return str(error)
