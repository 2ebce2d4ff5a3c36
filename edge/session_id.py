"""Session ids as clients write them and as keys hold them. No input or output."""

from __future__ import annotations

import uuid

from edge import errors
from edge.errors import ApiError


def canonical_session_id(text: str) -> str:
    """Return a session id as it stands in keys.

    Raises:
        ApiError: if it is no UUID.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ApiError(errors.INVALID_SESSION_ID, "a session id is a UUID") from None
