"""One socket's outgoing messages: bounded, and the newest of those that replace each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Outbox:
    """The messages that wait for one client, and the task that sends them.

    An ack replaces the ack before it, a partial the partial before it of its channel; all other messages keep their
    order and are bounded: `post` returns False once a client has let `bound` messages pile up.
    """

    __slots__ = (
        "_ack", "_bound", "_close", "_is_idle", "_partials", "_queue", "_send", "_send_now", "_wake", "acked_samples",
        "acks", "is_done",
    )  # fmt: skip

    def __init__(self, send: Send, send_now: Callable[[str], bool], *, bound: int) -> None:
        """Send by the ASGI callable `send`, and acks by `send_now` where it can."""
        self.acked_samples = 0
        """The offset of the last ack posted."""
        self.acks = 0
        self.is_done = False
        """Whether nothing will be sent any more."""
        self._send = send
        self._send_now = send_now
        self._is_idle = False
        """The task has nothing to send and has sent everything before."""
        self._bound = bound
        self._queue: deque[str] = deque()
        self._ack = ""
        self._partials: dict[int, str] = {}
        self._close: tuple[int, str] | None = None
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._queue)

    def post(self, text: str) -> bool:
        """Send `text` after the messages posted before; False if the client is too slow for it."""
        if self._close or len(self._queue) >= self._bound:
            return self._close is not None
        self.post_last(text)
        return True

    def post_last(self, text: str) -> None:
        """Send `text` before the close, however many messages wait."""
        if not self._close:
            self._partials.clear()  # a final or an error says more than the provisional texts before it
            self._queue.append(text)
            self._wake_up()

    def post_ack(self, offset_samples: int) -> None:
        """Ack audio up to `offset_samples`: at once where nothing else waits, else in place of an older ack."""
        self.acked_samples = offset_samples
        self.acks += 1
        text = f'{{"type":"ack","offset":{offset_samples}}}'
        if not (self._is_idle and self._send_now(text)):
            self._ack = text
            self._wake_up()

    def post_partial(self, channel: int, text: str) -> None:
        """Send a provisional text, unless a newer one replaces it first."""
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
                if self.is_done:
                    break
                self._is_idle = not self._wake.is_set()
                await self._wake.wait()
                self._wake.clear()
        finally:
            self.is_done = True

    def _wake_up(self) -> None:
        self._is_idle = False
        self._wake.set()

    async def _send_all(self) -> None:
        while True:
            if self._ack:
                text, self._ack = self._ack, ""
            elif self._queue:
                text = self._queue.popleft()
            elif self._partials:
                text = self._partials.pop(next(iter(self._partials)))
            else:
                break
            await self._send({"type": "websocket.send", "text": text})
        if self._close:
            code, reason = self._close
            self.is_done = True
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
