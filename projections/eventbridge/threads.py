"""A call in a thread that nobody waits for at exit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


async def in_daemon_thread(call: Callable[[], Value]) -> Value:
    """What `call` returns. Nobody waits for the thread at exit: AWS may not answer for long."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Value] = loop.create_future()

    def settle(value: Value | None, error: BaseException | None) -> None:
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(value)  # type: ignore[arg-type]
        else:
            answer.set_exception(error)

    def work() -> None:
        try:
            outcome: tuple[Value | None, BaseException | None] = (call(), None)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, name="eventbridge", daemon=True).start()
    return await answer
