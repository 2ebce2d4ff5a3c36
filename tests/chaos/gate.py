"""A TCP proxy that misbehaves when told: it cuts connections in the middle of what they carry, and stalls them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Self

CUT_S = 1.0
"""A connection that carries nothing for so long is cut where it stands, between two messages."""

READ_BYTES = 65_536


class Link:
    """One connection through a gate."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter, target: int) -> None:
        """Between who came, `near`, and `far`, the one at port `target`."""
        self.target = target
        self.port: int = near.get_extra_info("peername")[1]
        """Of who came, on its own side."""
        self._sides = (near, far)
        self._doomed = False
        self._open = asyncio.Event()
        self._open.set()

    def stall(self) -> None:
        """Carry nothing until `flow`."""
        self._open.clear()

    def flow(self) -> None:
        """Carry on."""
        self._open.set()

    def doom(self) -> None:
        """Carry half of what comes next, then break off."""
        self._doomed = True
        asyncio.get_running_loop().call_later(CUT_S, self.abort)

    def abort(self) -> None:
        """Break off as a network does: a reset to both."""
        for side in self._sides:
            side.transport.abort()
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy one direction until its end."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_BYTES):
                await self._open.wait()
                if self._doomed:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        if self._doomed:
            self.abort()
        writer.close()


class Gate:
    """Listens on a port that stays, and leads each connection to one of its targets, any that accepts."""

    def __init__(self, targets: Callable[[], Sequence[int]], dice: random.Random) -> None:
        """`targets` tells the ports at the moment of a connection."""
        self.links: set[Link] = set()
        self.stalled = False
        """New connections are not carried either."""
        self._targets = targets
        self._dice = dice
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
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
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def stall(self) -> None:
        """Carry nothing for anybody."""
        self.stalled = True
        for link in self.links:
            link.stall()

    def flow(self) -> None:
        """Carry on."""
        self.stalled = False
        for link in self.links:
            link.flow()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets = list(self._targets())
        self._dice.shuffle(targets)
        for target in targets:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
                break
        else:
            writer.transport.abort()
            return
        link = Link(writer, far_writer, target)
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
