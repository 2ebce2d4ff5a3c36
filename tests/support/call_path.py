"""Records which of the product's functions run because of one event, in the order in which they first ran."""

import inspect
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from types import CodeType, FrameType
from typing import Any

from tests.support.tree import PACKAGES, ROOT

_PREFIXES = tuple(f"{ROOT}/{package}/" for package in PACKAGES)

_NOT_PASSED = re.compile(
    r"eventlog\.(keys|positions|partitions|telemetry\.\w+):"
    r"|eventlog\.redis\.(server|cluster|packing|failures|scripts|isolated_calls|durability):"
    r"|\w+\.(metrics|metrics_endpoint|collector):|.*<locals>|.*\.__\w+__$|.*[.:]_?(is|has|may)_\w+$"
)
"""Functions that nothing is handed to on its way: names of keys and positions, instruments, predicates, and the Redis
client below the log, which every call passes alike."""


class CallPath:
    """Compares what runs while nothing happens with what runs while one event passes.

    A function belongs to the path if it ran in the second window alone, if it called such a one (the loops that look
    for news), or if one of these called it. Comprehensions, generator expressions and lambdas count as part of the
    function that holds them.
    """

    def __init__(self) -> None:
        """Record nothing yet."""
        self._calls: dict[tuple[CodeType | None, CodeType], None] = {}
        self._before: set[CodeType] = set()
        self._is_recording = False

    def watch_threads(self) -> None:
        """Record this thread and all that start from now on, while a window is open."""
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)

    def unwatch(self) -> None:
        """End what `watch_threads` began."""
        sys.setprofile(None)
        threading.setprofile(None)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """The window in which nothing happens."""
        with self._window():
            yield
        self._before = {callee for _, callee in self._calls}

    @contextmanager
    def event(self) -> Iterator[None]:
        """The window in which the event passes."""
        with self._window():
            yield

    def functions(self, *, passed: bool = False) -> list[str]:
        """The path, `module:function` each, in the order of the first calls.

        With `passed` only those that the event, or a thing made of it, is handed to: not names of keys and positions,
        instruments, predicates, properties, and the Redis client below the log.
        """
        new = {callee for _, callee in self._calls} - self._before
        found = new | {caller for caller, callee in self._calls if caller is not None and callee in new}
        while more := {callee for caller, callee in self._calls if caller in found} - found:
            found |= more
        order = dict.fromkeys(code for pair in self._calls for code in pair if code is not None and code in found)
        if passed:
            order = {code: None for code in order if not _NOT_PASSED.match(_name(code)) and not _is_property(code)}
        return list(dict.fromkeys(_name(code) for code in order))

    @contextmanager
    def _window(self) -> Iterator[None]:
        self._calls = {}
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def _on_event(self, frame: FrameType, event: str, _: Any) -> None:  # noqa: ANN401 - whatever the event brings
        if event == "call" and self._is_recording and _is_counted(frame.f_code):
            caller = frame.f_back
            while caller is not None and not _is_counted(caller.f_code):
                caller = caller.f_back
            self._calls[(caller.f_code if caller else None, frame.f_code)] = None


def _is_counted(code: CodeType) -> bool:
    return not code.co_name.startswith("<") and code.co_filename.startswith(_PREFIXES)


def _name(code: CodeType) -> str:
    module = code.co_filename.removeprefix(f"{ROOT}/").removesuffix(".py").replace("/", ".")
    return f"{module}:{code.co_qualname}"


def _is_property(code: CodeType) -> bool:
    module, _, names = _name(code).partition(":")
    found: object = import_module(module)
    for name in names.split("."):
        found = inspect.getattr_static(found, name, None)
    return isinstance(found, property | cached_property)
