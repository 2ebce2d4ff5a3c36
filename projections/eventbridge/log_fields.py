"""What logs say of an event: its ids, source, type and lengths, never its texts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from projections.eventbridge.responses import Trouble
from projections.integration_events import Event

logger = logging.getLogger(__name__)


def named(event: Event, source: str) -> dict[str, str]:
    """The fields that name an event in a log."""
    return {
        "interaction_id": event.session_id, "event_id": event.event_id, "source": source,
        "detail_type": str(event.kind),
    }  # fmt: skip


def lengths(event: Event) -> dict[str, int]:
    """How long the texts of a body are, in characters."""
    data = event.body.get("data")
    found = data.items() if isinstance(data, dict) else ()
    return {f"{name}_characters": len(text) for name, text in found if isinstance(text, str)}


def log_trouble(what: str, trouble: Trouble, events: Iterable[dict[str, Any]]) -> None:
    """One record for each event that a failure met, or one if it met none. The stack without the error's own text."""
    for told in [*events] or [{}]:
        logger.warning(what, extra={
            **told, "error_type": trouble.code, "error": trouble.message, "stack": trouble.stack,
        })  # fmt: skip
