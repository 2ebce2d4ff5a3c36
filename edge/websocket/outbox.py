"""One socket's outgoing messages: bounded, and the newest of what replaces itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Outbox:
    """What is to be sent to one client, and the task that sends it.

    An ack replaces the ack before it, a partial the partial before it of its channel; everything else keeps its order
    and is bounded: `post` says False once a client has let `bound` messages pile up.
    """

    __slots__ = ("_ack", "_bound", "_close", "_idle", "_partials", "_queue", "_send", "_send_now", "_wake", "done")

    def __init__(self, send: Send, send_now: Callable[[str], bool], *, bound: int) -> None:
        """Send by the ASGI callable `send`, and acks by `send_now` where it can."""
        self._send = send
        self._send_now = send_now
        self._idle = False
        """The task has nothing to send and has sent everything before."""
        self._bound = bound
        self._queue: deque[str] = deque()
        self._ack = -1
        self._partials: dict[int, str] = {}
        self._close: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self.done = False

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._queue)

    def post(self, text: str) -> bool:
        """Send `text` after what was posted before; False if the client is too slow for it."""
        if self._close or len(self._queue) >= self._bound:
            return self._close is not None
        self._partials.clear()  # a final or an error says more than the provisional texts before it
        self._queue.append(text)
        self._wake_up()
        return True

    def post_last(self, text: str) -> None:
        """Send `text` before the close, however much is waiting."""
        if not self._close:
            self._partials.clear()
            self._queue.append(text)
            self._wake_up()

    def post_ack(self, offset_samples: int) -> None:
        """Tell how much is durable."""
        if not (self._idle and self._send_now(f'{{"type":"ack","offset":{offset_samples}}}')):
            self._ack = offset_samples
            self._wake_up()

    def post_partial(self, channel: int, text: str) -> None:
        """Send a provisional text, unless a newer one overtakes it."""
        if not self._close:
            self._partials[channel] = text
            self._wake_up()

    def close(self, code: int, reason: str = "") -> None:
        """Close the socket once everything posted so far is sent."""
        if self._close is None:
            self._close = (code, reason)
            self._wake_up()

    async def run(self) -> None:
        """Send until closed.

        Raises:
            OSError: if the client is gone.
        """
        try:
            while True:
                await self._send_all()
                if self.done:
                    break
                self._idle = not self._wake.is_set()
                await self._wake.wait()
                self._wake.clear()
        finally:
            self.done = True

    def _wake_up(self) -> None:
        self._idle = False
        self._wake.set()

    async def _send_all(self) -> None:
        while True:
            if self._ack >= 0:
                text, self._ack = f'{{"type":"ack","offset":{self._ack}}}', -1
            elif self._queue:
                text = self._queue.popleft()
            elif self._partials:
                text = self._partials.pop(next(iter(self._partials)))
            else:
                break
            await self._send({"type": "websocket.send", "text": text})
        if self._close:
            code, reason = self._close
            self.done = True
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
