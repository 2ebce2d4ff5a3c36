"""Blocking calls in daemon threads, which hold up no exit."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


async def in_daemon_thread(call: Callable[[], Value]) -> Value:
    """Return the value of `call`, made in a thread that the process's exit does not wait for: AWS may be slow."""
    future: concurrent.futures.Future[Value] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # a waiter that is cancelled leaves the call alone

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - handed to the waiter
            future.set_exception(error)

    threading.Thread(target=work, name="eventbridge", daemon=True).start()
    return await asyncio.wrap_future(future)
