"""The network between processes and the modelled Redis: latency, stalls, and lost, doubled or late calls."""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventlog.keys import Keys
from eventlog.redis.server import CALL_TIMEOUT_S, Argument, Server
from tests.simulation.redis_model import CommandError, RedisModel
from tests.simulation.scheduler import Process, SimulatedLoop
from tests.support.waiting import lasting

LATENCY_S = (0.0002, 0.004)
"""One way; wide enough that calls of one process overtake each other, as they do on connections of a pool."""

LOST_WAKEUP_SHARE = 0.2
"""Share of lost wake-ups: correctness must not depend on any."""


class Fate(enum.Enum):
    """The fate of one call, or of its caller at it."""

    LOST = "lost before its effect"
    UNANSWERED = "its answer is lost"
    DOUBLED = "sent twice, the second one's answer counts"
    LATE = "given up by the caller, and done later"
    FROZEN_BEFORE = "the caller freezes before it"
    FROZEN_AFTER = "the caller freezes while it is under way"
    KILLED_BEFORE = "the caller dies before it"
    KILLED_AFTER = "the caller dies while it is under way"
    STALLED = "Redis stalls before it arrives"


class Planned(NamedTuple):
    """The fate of a future call."""

    fate: Fate
    kind: str
    """The script or command with which the call must begin; empty for any."""
    seconds: float


@dataclass
class _Request:
    caller: Process
    commands: Sequence[tuple[Argument, ...]]
    answer: "asyncio.Future[list[Any]]"
    copies: int = 1
    is_answered: bool = True
    executed: int = field(default=0)


class Network:
    """Carries calls to the model and replies back, in virtual time."""

    def __init__(self, loop: SimulatedLoop, model: RedisModel, kinds: dict[str, str]) -> None:
        """`kinds` names scripts by their SHA-1."""
        self.loop = loop
        self.model = model
        self._kinds = kinds
        self._planned: dict[Process, deque[Planned]] = {}
        self._stalled_until_s = 0.0
        self._away_until_s = 0.0
        self._waiting: list[_Request] = []
        self._wakeups: list[SimulatedWakeups] = []
        self.is_closed = False
        self.happened: dict[Fate, int] = dict.fromkeys(Fate, 0)
        self.caller = loop.world
        """The process whose call is being executed."""

    def plan(self, process: Process, planned: Planned) -> None:
        """Plan a fate for a future call of `process`: the first of its kind after those planned before."""
        self._planned.setdefault(process, deque()).append(planned)

    def heal(self) -> None:
        """End every stall and drop every plan."""
        self._planned.clear()
        self._stalled_until_s = min(self._stalled_until_s, self.loop.time())
        self._away_until_s = min(self._away_until_s, self.loop.time())
        self._resume()

    def stall(self, seconds: float) -> None:
        """Stall the server for a time; calls wait, and are then executed in any order."""
        self._stalled_until_s = max(self._stalled_until_s, self.loop.time() + seconds)
        self.loop.call_at(self._stalled_until_s, self._resume, context=self.loop.world.context)

    def restart(self, seconds: float) -> None:
        """Stop the server for a time; it returns with its data, and calls meanwhile fail without effect."""
        self._away_until_s = max(self._away_until_s, self.loop.time() + seconds)
        self.model.forget_scripts()

    def subscribe(self, wakeups: "SimulatedWakeups") -> None:
        """Send messages to `wakeups` from now on."""
        self._wakeups.append(wakeups)

    def unsubscribe(self, wakeups: "SimulatedWakeups") -> None:
        """Send `wakeups` no more messages."""
        if wakeups in self._wakeups:
            self._wakeups.remove(wakeups)

    async def call(self, caller: Process, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """The replies to some commands.

        Raises:
            RedisConnectionError: if the connection broke.
            RedisTimeoutError: if no reply came in time.
        """
        if self.is_closed:
            raise RedisConnectionError("the simulation is over")
        planned = self._take_planned(caller, commands)
        fate = planned.fate if planned else None
        if planned and fate in (Fate.FROZEN_BEFORE, Fate.KILLED_BEFORE):
            self._strike(caller, planned)
            await lasting(0)  # continues, if ever, when the caller does
        request = _Request(caller, commands, self.loop.create_future())
        if planned:
            self._apply(request, planned)
        if fate is not Fate.LOST:
            delay_s = planned.seconds if planned and fate is Fate.LATE else 0.0
            self._later(lambda: self._arrive(request), delay_s)
        deadline = self.loop.call_later(CALL_TIMEOUT_S, self._give_up, request, context=self.loop.world.context)
        try:
            return await request.answer
        finally:
            deadline.cancel()

    def _take_planned(self, caller: Process, commands: Sequence[tuple[Argument, ...]]) -> Planned | None:
        waiting = self._planned.get(caller)
        if not waiting or waiting[0].kind not in ("", self.kind(commands[0])):
            return None
        planned = waiting.popleft()
        self.happened[planned.fate] += 1
        return planned

    def kind(self, command: tuple[Argument, ...]) -> str:
        """Its script or command."""
        name = str(command[0])
        return self._kinds.get(str(command[1]), name) if name == "EVALSHA" else name

    def _apply(self, request: _Request, planned: Planned) -> None:
        fate = planned.fate
        if fate in (Fate.LOST, Fate.UNANSWERED, Fate.LATE):
            request.is_answered = False
            request.caller.disturb()
            self._later(lambda: self._fail(request, RedisConnectionError("connection lost")))
        elif fate is Fate.DOUBLED:
            request.copies = 2
        elif fate is Fate.STALLED:
            self.stall(planned.seconds)
        elif fate in (Fate.FROZEN_AFTER, Fate.KILLED_AFTER):
            # The request or its reply is under way; the caller receives it when it runs again.
            self._later(lambda: self._strike(request.caller, planned))

    def _strike(self, process: Process, planned: Planned) -> None:
        if planned.fate in (Fate.KILLED_BEFORE, Fate.KILLED_AFTER):
            process.kill()
        else:
            process.freeze(planned.seconds)

    def _later(self, act: Callable[[], None], extra_s: float = 0.0) -> None:
        delay_s = extra_s + self.loop.random.uniform(*LATENCY_S)
        self.loop.call_later(delay_s, act, context=self.loop.world.context)

    def _arrive(self, request: _Request) -> None:
        if self.loop.time() < self._away_until_s:
            self._later(lambda: self._fail(request, RedisConnectionError("refused")))
        elif self.loop.time() < self._stalled_until_s:
            self._waiting.append(request)
        else:
            self._execute(request)

    def _resume(self) -> None:
        if self.loop.time() < self._stalled_until_s:
            return
        waiting, self._waiting = self._waiting, []
        self.loop.random.shuffle(waiting)
        for request in waiting:
            self._execute(request)

    def _execute(self, request: _Request) -> None:
        if self.is_closed:
            return
        self.caller = request.caller
        answers = [self._one(command) for command in request.commands]
        self.caller = self.loop.world
        request.executed += 1
        self._deliver()
        if request.executed < request.copies:
            self._later(lambda: self._arrive(request), self.loop.random.choice((0.0, 0.01, 1.0)))
        elif request.is_answered:
            self._later(lambda: self._answer(request, answers))

    def _one(self, command: tuple[Argument, ...]) -> Any:  # noqa: ANN401 - as Redis
        try:
            return self.model.execute(command)
        except CommandError as error:
            text = str(error)
            if text.startswith("NOSCRIPT"):
                return NoScriptError(text)
            return ResponseError(text.removeprefix("ERR "))

    def _answer(self, request: _Request, answers: list[Any]) -> None:
        if not request.answer.done():
            request.answer.set_result(answers)

    def _fail(self, request: _Request, error: Exception) -> None:
        if not request.answer.done():
            request.answer.set_exception(error)

    def _give_up(self, request: _Request) -> None:
        self._fail(request, RedisTimeoutError("no answer in time"))

    def _deliver(self) -> None:
        published, self.model.published = self.model.published, []
        for channel, message in published:
            for wakeups in self._wakeups:
                if channel in wakeups.channels and self.loop.random.random() >= LOST_WAKEUP_SHARE:
                    delay_s = self.loop.random.uniform(*LATENCY_S)
                    self.loop.call_later(delay_s, wakeups.receive, channel, message, context=wakeups.process.context)


class SimulatedServer(Server):
    """The product's own `Server`, whose round trips cross the network to the model."""

    def __init__(self, network: Network, keys: Keys, process: Process) -> None:
        """The connections of one process."""
        super().__init__(cast("Redis", None), keys, "simulated:")
        self.network = network
        self.process = process

    async def _pipelined(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        return await self.network.call(self.process, commands)

    async def close(self) -> None:
        """Close nothing: no connection is real."""


class SimulatedWakeups:
    """Stands in for `eventlog.redis.wakeups.Wakeups`: messages come late, or not at all."""

    def __init__(
        self, server: Server, channels: Sequence[str], on_message: Callable[[str, bytes], None],
        on_reset: Callable[[], None],
    ) -> None:  # fmt: skip
        """Take the product's arguments."""
        assert isinstance(server, SimulatedServer)
        self._network = server.network
        self.process = server.process
        self.channels = frozenset(channels)
        self._on_message = on_message
        self._on_reset = on_reset

    async def start(self) -> None:
        """Subscribe."""
        self._network.subscribe(self)
        self._on_reset()

    async def wait(self) -> None:
        """Wait until cancelled: no simulated subscription ends by itself."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Unsubscribe."""
        self._network.unsubscribe(self)

    def receive(self, channel: str, message: bytes) -> None:
        """Pass a message on."""
        self._on_message(channel, message)
