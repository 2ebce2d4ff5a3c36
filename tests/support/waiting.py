"""Waiting for a condition, with a deadline: the one place in the tests that pauses."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")

# Short against the conditions' times (tens of milliseconds and more), long against the cost of a check.
PAUSE_S = 0.01
# A busy CI machine stalls for seconds; a condition that holds costs nothing of it.
TIMEOUT_S = 30.0


def eventually(check: Callable[[], Value], timeout_s: float = TIMEOUT_S, message: str = "") -> Value:
    """Returns the first true value of `check`; an assertion that fails inside counts as not yet.

    Raises:
        AssertionError: It did not become true within `timeout_s`; the last failed assertion is its cause.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object = None
        failure: AssertionError | None = None
        try:
            last = value = check()
        except AssertionError as error:
            failure = error
        else:
            if value:
                return value
        if time.monotonic() >= deadline:
            raise AssertionError(_late(check, timeout_s, message, last)) from failure
        time.sleep(PAUSE_S)


@overload
async def eventually_async(
    check: Callable[[], Awaitable[Value]], timeout_s: float = ..., message: str = ...,
) -> Value: ...


@overload
async def eventually_async(check: Callable[[], Value], timeout_s: float = ..., message: str = ...) -> Value: ...


async def eventually_async(
    check: Callable[[], Value | Awaitable[Value]], timeout_s: float = TIMEOUT_S, message: str = "",
) -> Value:
    """As `eventually`, leaving the event loop free; `check` may be a coroutine function.

    Raises:
        AssertionError: It did not become true within `timeout_s`; the last failed assertion is its cause.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object = None
        failure: AssertionError | None = None
        try:
            found = check()
            last = value = await found if inspect.isawaitable(found) else found
        except AssertionError as error:
            failure = error
        else:
            if value:
                return value
        if time.monotonic() >= deadline:
            raise AssertionError(_late(check, timeout_s, message, last)) from failure
        await asyncio.sleep(PAUSE_S)


async def lasting(duration_s: float) -> None:
    """Let time pass that is a part of the scenario: the length of a fault, of speech, of a poll's pause.

    No test waits for a condition by it.
    """
    await asyncio.sleep(duration_s)


def _late(check: object, timeout_s: float, message: str, last: object) -> str:
    what = message or getattr(check, "__qualname__", repr(check))
    return f"not within {timeout_s} s: {what} (last: {last!r})"
