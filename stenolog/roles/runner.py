"""Runs one role in this process until it is stopped."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from eventlog.service import Service
from eventlog.telemetry import error_counts
from stenolog import logs
from stenolog.settings import Settings

logger = logging.getLogger(__name__)

Serve = Callable[[Settings, asyncio.Event], Awaitable[None]]
"""Does a role's work until the event is set, then ends it in order."""

YOUNG_OBJECTS, YOUNG_PASSES, MIDDLE_PASSES = 20_000, 20, 50
"""When the garbage collector passes over which generation. Hardly anything here is cyclic, and with a thousand sessions
a full pass, by default after 70,000 new objects, holds up all of them for tens of milliseconds."""

ORPHAN_TIMEOUT_S = 20.0
"""A role whose parent died ends itself in order, and after this by force: longer than any orderly end takes."""


def run(role: str, settings: Settings, serve: Serve, *, follow_parent: bool = False) -> None:
    """Serve until SIGTERM, Ctrl-C or, if `follow_parent`, the end of standard input."""
    logs.configure(role, settings.log_level)
    error_counts.install()
    if follow_parent:
        threading.Thread(target=_follow_parent, name="follow-parent", daemon=True).start()
    gc.collect()
    gc.freeze()  # imported modules stay; no pass over them is ever worth it
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_PASSES, MIDDLE_PASSES)
    uvloop.run(_served(settings, serve))
    logger.info("stopped")


async def _served(settings: Settings, serve: Serve) -> None:
    stop = asyncio.Event()
    with stopped_by_signals(stop):
        await serve(settings, stop)


async def serve(stop: asyncio.Event, *services: Service) -> None:
    """Start services in order, run them until the event is set, and stop them in reverse order.

    Raises:
        LogUnavailableError: if one could not start.
        Exception: the error of the first service to end, if one ends before the event.
    """
    stopping = asyncio.create_task(stop.wait())
    endings: list[asyncio.Task[None]] = []
    try:
        for service in services:
            await service.start()
            endings.append(asyncio.create_task(service.wait()))
        await asyncio.wait({stopping, *endings}, return_when=asyncio.FIRST_COMPLETED)
        for ending in endings:
            if ending.done():
                await ending
    finally:
        for task in (stopping, *endings):
            task.cancel()
        for service in reversed(services):
            await service.stop()


@contextlib.contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set the event at SIGTERM or Ctrl-C; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGINT)
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _follow_parent() -> None:
    # The parent writes nothing: reading ends when it, or the kernel after its death, closes the pipe.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_TIMEOUT_S)
    os._exit(1)
