"""A server's short path beside ASGI, in a scope's state under `STATE_KEY`; without it all works, for more CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

STATE_KEY = "fast_path"

Tap = Callable[[bytes], bool]


class FastPath(Protocol):
    """One connection's short path; `edge.server.server.EdgeProtocol` has it."""

    def tap(self, tap: Tap | None) -> None:
        """Send binary messages to `tap`, in order with all others; read no more when it answers False."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def send_now(self, text: str) -> bool:
        """Send a short text message without waiting; False if that isn't possible now."""
        ...

    def abort(self) -> None:
        """Cut the connection."""
        ...


class NoFastPath:
    """Plain ASGI: the server's own ways alone, and its time-outs."""

    def tap(self, tap: Tap | None) -> None:
        """Messages come by `receive`."""

    def resume(self) -> None:
        """Reading goes on with the next `receive`."""

    def send_now(self, text: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """Not possible."""
        return False

    def abort(self) -> None:
        """Left to the server's time-outs."""
