"""A TCP proxy that cuts connections in the middle of a message, and stalls them, on demand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Self

CUT_S = 1.0
"""A cut connection that carries nothing for this long is reset between two messages."""

READ_BYTES = 65_536


class ProxiedConnection:
    """One connection through a proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter, target: int) -> None:
        """Connect the client `near` with `far`, the server at port `target`."""
        self.target = target
        self.port: int = near.get_extra_info("peername")[1]
        """The client's own port."""
        self._sides = (near, far)
        self._is_cut = False
        self._open = asyncio.Event()
        self._open.set()

    def stall(self) -> None:
        """Carry nothing until `resume`."""
        self._open.clear()

    def resume(self) -> None:
        """Carry data again."""
        self._open.set()

    def cut(self) -> None:
        """Carry half of the next data, then reset."""
        self._is_cut = True
        asyncio.get_running_loop().call_later(CUT_S, self.abort)

    def abort(self) -> None:
        """Reset both sides, as a broken network does."""
        for side in self._sides:
            side.transport.abort()
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy one direction until its end."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_BYTES):
                await self._open.wait()
                if self._is_cut:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        if self._is_cut:
            self.abort()
        writer.close()


class TcpProxy:
    """Listens on one port, and connects each client to one of the targets that accept."""

    def __init__(self, targets: Callable[[], Sequence[int]], dice: random.Random) -> None:
        """`targets` returns the ports at the time of a connection."""
        self.links: set[ProxiedConnection] = set()
        self.stalled = False
        """Whether new connections stall too."""
        self._targets = targets
        self._dice = dice
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.links):
            link.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def stall(self) -> None:
        """Stall every connection."""
        self.stalled = True
        for link in self.links:
            link.stall()

    def resume(self) -> None:
        """Carry data again."""
        self.stalled = False
        for link in self.links:
            link.resume()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets = list(self._targets())
        self._dice.shuffle(targets)
        for target in targets:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
                break
        else:
            writer.transport.abort()
            return
        link = ProxiedConnection(writer, far_writer, target)
        if self.stalled:
            link.stall()
        self.links.add(link)
        both = [
            asyncio.create_task(link.carry(reader, far_writer)), asyncio.create_task(link.carry(far_reader, writer))
        ]
        self._tasks.update(both)
        try:
            await asyncio.wait(both)
        finally:
            self.links.discard(link)
            self._tasks.difference_update(both)
            link.abort()
