"""Where a client sends its token: a header, or on a WebSocket a subprotocol; never the URL, which servers log."""

from __future__ import annotations

from starlette.requests import HTTPConnection

SUBPROTOCOL = "stenolog"
"""Browsers cannot set a header on a WebSocket: they offer this subprotocol, and a second one that carries the token."""

TOKEN_SUBPROTOCOL = "bearer."  # noqa: S105 - the prefix, not a token


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return the token that a request or a handshake carries, or None."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    offered: list[str] = connection.scope.get("subprotocols", [])
    if SUBPROTOCOL not in offered:
        return None
    tokens = (one.removeprefix(TOKEN_SUBPROTOCOL) for one in offered if one.startswith(TOKEN_SUBPROTOCOL))
    return next(tokens, None)


def chosen_subprotocol(connection: HTTPConnection) -> str | None:
    """Choose the subprotocol that answers a handshake: ours if it was offered, never the one with the token."""
    return SUBPROTOCOL if SUBPROTOCOL in connection.scope.get("subprotocols", []) else None
