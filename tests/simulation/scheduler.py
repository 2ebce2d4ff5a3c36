"""An event loop without threads, sockets and real time, whose processes run, freeze and die on demand."""

import asyncio
import contextlib
import contextvars
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

EPOCH_S = 1_700_000_000
"""The wall clock at the start of a simulation: any time will do, but always the same."""


class Process:
    """Tasks that live and die together: a process of the deployment, as far as other processes can see.

    Attributes:
        disturbed_until_s: End of the latest fault that excuses a lost claim; virtual seconds.
    """

    def __init__(self, loop: "SimulatedLoop", name: str) -> None:
        self.name = name
        self.loop = loop
        loop.processes.append(self)
        self.ready: deque[asyncio.Handle] = deque()
        self.is_dead = False
        self.frozen_until_s = 0.0
        self.disturbed_until_s = float("-inf")
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped now, as by SIGSTOP."""
        return self.frozen_until_s > self.loop.time()

    def disturb(self) -> None:
        """Excuse the loss of its claims."""
        self.disturbed_until_s = max(self.loop.time(), self.frozen_until_s)

    def freeze(self, seconds: float) -> None:
        """Stop it for a time at any point; the clocks run."""
        self.frozen_until_s = max(self.frozen_until_s, self.loop.time() + seconds)
        self.disturb()
        self.loop.call_at(self.frozen_until_s, _nothing, context=self.loop.world.context)

    def thaw(self, seconds: float) -> None:
        """Resume it after `seconds`, if it would be frozen for longer."""
        if self.frozen_until_s > self.loop.time() + seconds:
            self.frozen_until_s = self.loop.time() + seconds
            self.loop.call_at(self.frozen_until_s, _nothing, context=self.loop.world.context)

    def kill(self) -> None:
        """End it at any point; calls under way arrive, and their replies are dropped."""
        self.is_dead = True
        self.disturb()

    def spawn(self, work: Any) -> "asyncio.Task[Any]":  # noqa: ANN401 - any coroutine
        """Run a coroutine as one of its tasks."""
        return self.context.run(self.loop.create_task, work)


_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


def current_process() -> Process:
    """The process whose code runs now."""
    return _process.get()


def _nothing() -> None:
    """Only wakes the loop."""


class StuckError(Exception):
    """No callback and no timer is left."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs one callback at a time, of a process drawn at random; time passes when no callback is ready.

    Within a process callbacks run in the order in which they were scheduled, as asyncio promises.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self._now_s = 0.0
        self._runnable: list[Process] = []
        self.processes: list[Process] = []
        self.world = Process(self, "world")
        self.steps = 0
        self._random_state: Any = None
        self.failures: list[str] = []
        self.set_exception_handler(self._note_failure)

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now_s

    def now_ms(self) -> int:
        """The wall clock of all processes and of the server, Unix ms."""
        return EPOCH_S * 1000 + int(self._now_s * 1000)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None  # noqa: ANN401
    ) -> asyncio.Handle:
        """As asyncio's, in the queue of the process that the context belongs to."""
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(_process, self.world)  # type: ignore[attr-defined]
        if not process.ready and not process.is_dead:
            self._runnable.append(process)
        process.ready.append(handle)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any  # noqa: ANN401, ARG002 - no thread is ever made
    ) -> "asyncio.Future[Any]":
        """Run `func` after a moment, as if in a thread."""
        future = self.create_future()

        def done() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - the caller gets any error
                future.set_exception(error)

        self.call_later(self.random.uniform(0.001, 0.05), done)
        return future

    def run_for(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], most_s: float) -> bool:
        """Let time pass until a condition holds, checked after each moment; False if it didn't within `most_s`."""
        end_s = self._now_s + most_s
        with self._virtual():
            while not condition():
                if not self._moment(end_s):
                    return condition()
        return True

    def _moment(self, end_s: float) -> bool:
        """Run every ready callback, then advance the clock to the next timer, at most to `end_s`."""
        while self._step():
            pass
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self._popped(scheduled)
        if not scheduled or scheduled[0].when() > end_s:
            self._now_s = end_s
            return False
        self._now_s = max(self._now_s, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now_s:
            handle = self._popped(scheduled)
            if not handle._cancelled:
                self._enqueue(handle)
        return True

    def _popped(self, scheduled: list[asyncio.TimerHandle]) -> asyncio.TimerHandle:
        handle = heapq.heappop(scheduled)
        handle._scheduled = False  # type: ignore[attr-defined]
        return handle

    def _step(self) -> bool:
        """Run the next callback of a process that can run; False without one."""
        process = self._next_process()
        if process is None:
            return False
        handle = process.ready.popleft()
        if not handle._cancelled:
            self.steps += 1
            handle._run()
        return True

    def _next_process(self) -> Process | None:
        now_s, runnable = self._now_s, self._runnable
        for process in runnable:
            if not process.ready or process.is_dead or process.frozen_until_s > now_s:
                break
        else:  # nearly always
            return self._drawn(runnable)
        self._runnable = runnable = [one for one in runnable if one.ready and not one.is_dead]
        return self._drawn([one for one in runnable if one.frozen_until_s <= now_s])

    def _drawn(self, able: list[Process]) -> Process | None:
        if len(able) > 1:
            return able[int(self.random.random() * len(able))]
        return able[0] if able else None

    @contextlib.contextmanager
    def _virtual(self) -> Iterator[None]:
        """Give all code the virtual clocks and this simulation's random numbers."""
        before = random.getstate()
        if self._random_state is None:
            random.seed(self.random.random())
        else:
            random.setstate(self._random_state)
        clocks = {
            "monotonic": self.time,
            "monotonic_ns": lambda: int(self._now_s * 1e9),
            "time": lambda: EPOCH_S + self._now_s,
            "time_ns": lambda: int((EPOCH_S + self._now_s) * 1e9),
        }
        asyncio.events._set_running_loop(self)
        try:
            with ExitStack() as stack:
                for name, clock in clocks.items():
                    stack.enter_context(mock.patch.object(time, name, clock))
                yield
        finally:
            asyncio.events._set_running_loop(None)
            self._random_state = random.getstate()
            random.setstate(before)

    def _note_failure(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(f"{context['message']}: {type(error).__name__} {error}")

    def shut(self) -> None:
        """End every task, those of the dead too, and close."""
        tasks = asyncio.all_tasks(self)
        for process in self.processes:
            process.is_dead, process.frozen_until_s = False, 0.0
        self._runnable = [process for process in self.processes if process.ready]
        for _ in range(20):
            for task in tasks:
                task.cancel()
            if self.run_until(lambda: all(task.done() for task in tasks), 1.0):
                break
        self.close()

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: without a selector no events come."""

    def _write_to_self(self) -> None:
        """Do nothing: no other thread wakes this loop."""
