"""A server's short path beside ASGI, in a scope's state under `STATE_KEY`; without it all works, for more CPU."""

from __future__ import annotations

from collections.abc import Callable

STATE_KEY = "fast_path"

Tap = Callable[[bytes], bool]


class FastPath:
    """One connection's short path. This one is plain ASGI's; `edge.server.server.EdgeProtocol` has a shorter one."""

    def tap(self, tap: Tap | None) -> None:
        """Send binary messages to `tap`, in order with all others; read no more when it answers False.

        Plain ASGI: messages come by `receive` alone.
        """

    def resume(self) -> None:
        """Read on. Plain ASGI: reading continues with the next `receive`."""

    def send_now(self, text: str) -> bool:  # noqa: ARG002 - of plain ASGI
        """Send a short text message without waiting; False if that isn't possible now. Plain ASGI: never."""
        return False

    def abort(self) -> None:
        """Cut the connection. Plain ASGI: left to the server's time-outs."""
