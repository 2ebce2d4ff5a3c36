"""One run: the deployment starts, clients speak, faults strike, all settles, and every session is judged."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import redis

from eventlog.keys import Keys
from tests.chaos import leftovers, older_names
from tests.chaos.client import Client
from tests.chaos.client_audio import ClientAudio, audio_of
from tests.chaos.clock import Clock, compiled
from tests.chaos.faults import Targets, inject
from tests.chaos.findings import Findings, judge
from tests.chaos.plan import EDGE, POISONED_RATE_HZ, PROJECTOR, WORKER, Fault, Scenario
from tests.chaos.poisoned_engines import install
from tests.chaos.recovery import RecoveryMonitor
from tests.chaos.redis_process import RedisProcess
from tests.chaos.role_processes import MARK, Build, RoleProcess, RoleProcesses, cancel, now_s, orphans
from tests.chaos.stored_session import read_session
from tests.chaos.tcp_proxy import TcpProxy
from tests.support.pcm import talk
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async, lasting

PARTITIONS = 8
"""Few, so that polling all of them costs little; several, so that sessions are spread."""

IDLE_S = 20
"""Longer than any client here is disconnected; the idle sweep ends a session whose end power loss took back."""

SETTLE_S = 180.0
"""Bound of every wait for the deployment to settle: seconds on a calm machine."""

ROLES = (EDGE, WORKER, PROJECTOR)
CONSUMER_EXPIRY_STEP_MS = 4_000_000
"""Redis's clock steps forward by this at the end, after which every silent consumer must be deleted."""

POISONED_S = 3.0
"""Length of the speech that kills its recogniser's process."""


class Options(NamedTuple):
    """How to run the suite."""

    directory: Path
    engine: str = "mock"
    lease_ms: int = 1_500
    clients: int = 8
    """Concurrent clients."""
    each: int = 2
    """Processes of each role."""
    tree: Path = ROOT
    older: Path | None = None
    """An older version's source tree, for every other process."""
    log: Callable[[str], None] = lambda _: None


@dataclass
class Outcome:
    """The result of a run."""

    findings: Findings = field(default_factory=Findings)
    faults: list[tuple[Fault, float]] = field(default_factory=list)
    """Each with the time of its injection."""
    sessions: int = 0
    poisoned: int = 0
    lost_sessions: int = 0
    """Sessions that power loss took whole, as they were not on disk yet."""
    connections: int = 0
    resets: int = 0
    lost_bytes: int = 0
    deaths_by_poison: int = 0
    trials: set[str] = field(default_factory=set)
    """Sessions that got a quarantine trial, as faults had hit three workers between two of their commits."""
    left: list[str] = field(default_factory=list)
    """What should have been cleaned up."""
    recovery: RecoveryMonitor | None = None


class Suite:
    """Everything that runs while the context is entered."""

    def __init__(self, options: Options, scenario: Scenario) -> None:
        """Prepare a run of `scenario`."""
        self.options = options
        self.scenario = scenario
        self.keys = Keys(PARTITIONS)
        self.mark = uuid.uuid4().hex
        self.clients: list[Client] = []
        self.poisoned: list[str] = []
        self.outcome = Outcome()
        self.stopping = asyncio.Event()
        """Set when clients open no more sessions."""
        self.library: Path | None = None
        self._dice = random.Random(f"{scenario.seed}/run")
        self._exit_stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        directory = self.options.directory
        (directory / "logs").mkdir(parents=True)
        self.library = compiled(directory)
        self.engine = install(directory / "engines", self.options.engine)
        self.redis_process = RedisProcess(directory / "redis", self._clock("redis"))
        self.recovery = self.outcome.recovery = RecoveryMonitor(self.redis_process, self.keys, self._has_worker)
        self.roles = RoleProcesses(self.redis_process, self._dice)
        self._exit_stack.push_async_callback(self._clear)
        await self.redis_process.start()
        self.client_proxy = await self._exit_stack.enter_async_context(TcpProxy(self.roles.edge_ports, self._dice))
        for work in (self.redis_process.watch_syncs(), self.roles.supervise(), self.recovery.run(lambda: self.clients)):
            self._background(work)
        processes = [await self._role_process(role, number) for role in ROLES for number in range(self.options.each)]
        await self.roles.start(processes)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit_stack.aclose()

    @property
    def speaking(self) -> list[Client]:
        """The clients whose session has not ended."""
        return [client for client in self.clients if client.end is None and not client.violations]

    def start_clients(self) -> list[asyncio.Task[None]]:
        """Start the clients."""
        return [asyncio.create_task(self._run_client(number)) for number in range(self.options.clients)]

    async def play(self) -> None:
        """Inject the faults in order, each after recovery from the one before, unless they are joined."""
        targets = Targets(
            self.roles, self.redis_process, self.recovery, self.client_proxy, lambda: self.speaking,
            self._open_poisoned_session, self.options.lease_ms, self._dice,
        )  # fmt: skip
        joined: list[Awaitable[None]] = []
        if self.scenario.faults:
            await eventually_async(self._all_speak, SETTLE_S, "every client is acked")
        for fault in self.scenario.faults:
            self.options.log(f"{fault.number + 1:4} {fault.kind}{' (joined)' if fault.joined else ''}")
            self.outcome.faults.append((fault, now_s()))
            joined.append(asyncio.create_task(inject(targets, fault)))
            if fault.joined:
                await lasting(fault.severity)
                continue
            await asyncio.gather(*joined)
            joined.clear()
            await eventually_async(self.is_settled, SETTLE_S, f"the deployment is whole again after {fault}")
        await asyncio.gather(*joined)

    def _all_speak(self) -> bool:
        """Whether faults have targets: every client speaks, and a worker holds some session."""
        speaking = [client for client in self.speaking if client.acks]
        return len(speaking) == self.options.clients and bool(self.recovery.holders)

    async def is_settled(self) -> bool:
        """Whether the deployment is whole: every process is ready, and a worker holds every session."""
        workers = {process.pid for process in self.roles.of(WORKER)}
        if self.recovery.unclaimed or not workers.issuperset(self.recovery.holders.values()):
            return False
        return all([await self.roles.is_ready(process) for process in self.roles.processes])

    async def conclude(self, client_tasks: Sequence[asyncio.Task[None]]) -> Outcome:
        """End every session, and judge them."""
        self.stopping.set()
        await asyncio.gather(*client_tasks)
        await eventually_async(self.is_settled, SETTLE_S, "the deployment is whole at the end")
        await self._wait_idle()
        outcome, redis_client = self.outcome, self.redis_process.client
        for client in self.clients:
            found = await read_session(redis_client, self.keys.of(client.session_id), client.audio.channels)
            judge(outcome.findings, client, found, self.redis_process.losses, self.engine)
            outcome.connections += client.connections
            outcome.resets += client.resets
            outcome.lost_sessions += len(client.lost_sessions)
        outcome.sessions, outcome.poisoned = len(self.clients), len(self.poisoned)
        outcome.lost_bytes = sum(loss.lost_bytes for loss in self.redis_process.losses)
        outcome.deaths_by_poison = self.roles.deaths_by_poison
        await self._find_leftovers()
        return outcome

    async def _wait_idle(self) -> None:
        """Wait until no work is pending; what remains at the deadline is a finding."""
        found: list[str] = []

        async def is_empty() -> bool:
            found[:] = await leftovers.pending(self.redis_process.client, self.keys)
            return not found

        try:
            await eventually_async(is_empty, SETTLE_S)
        except AssertionError:
            self.outcome.left += found

    async def _find_leftovers(self) -> None:
        outcome, client, keys = self.outcome, self.redis_process.client, self.keys
        outcome.left += [f"no TTL: {name}" for name in await leftovers.keys_without_ttl(client, keys)]
        outcome.left += await leftovers.dead_letters(client, keys)
        seconds, _ = await client.time()
        outcome.left += await leftovers.reservations(client, seconds * 1000 + 1000)
        found = await leftovers.quarantined(client, keys)
        outcome.left += [f"quarantined: {one}: {why}" for one, why in found.items() if one not in self.poisoned]
        outcome.left += [f"poisoned and not quarantined: {one}" for one in self.poisoned if one not in found]
        outcome.left += await self._unknown_sessions()
        outcome.left += await self._dead_consumers()
        outcome.left += [
            f"{process.name} ended by itself: {process.unexpected_exits}"
            for process in self.roles.processes if process.unexpected_exits
        ]
        outcome.left += [f"{name} ended with {code}" for name, code in (await self.roles.stop()).items() if code]
        outcome.left += [f"left running: {one}" for one in orphans(self.mark)]
        logs = [process.log for process in self.roles.processes]
        outcome.left += leftovers.errors(logs)
        outcome.trials = leftovers.trials(logs)

    async def _unknown_sessions(self) -> list[str]:
        """Sessions that no client knows, opened after their client disconnected; these must hold no audio."""
        known = {*self.poisoned, *(client.session_id for client in self.clients)}
        found = []
        for partition in self.keys.partitions:
            for member in await self.redis_process.client.zrange(partition.index, 0, -1):
                session_id = member.decode().partition(" ")[0]
                if session_id in known:
                    continue
                there = await read_session(self.redis_process.client, self.keys.of(session_id), 1)
                if there.audio.end_samples or len(there.facts) > len(("opened", "ended")):
                    found.append(f"a session of no client has audio: {session_id}")
        return found

    async def _dead_consumers(self) -> list[str]:
        if self.library is None:
            return []
        self.redis_process.clock.step(CONSUMER_EXPIRY_STEP_MS)
        found: list[str] = []

        async def is_empty() -> bool:
            living = [process.pid for process in self.roles.processes]
            found[:] = await leftovers.dead_consumers(self.redis_process.client, self.keys, living)
            return not found

        try:
            await eventually_async(is_empty, SETTLE_S)
        except AssertionError:
            return found
        return []

    async def _run_client(self, number: int) -> None:
        for plan in self.scenario.sessions(number):
            if self.stopping.is_set() and plan.number:
                return
            dice = random.Random(f"{self.scenario.seed}/{number}/{plan.number}/client")
            client = Client(audio_of(plan), self.client_proxy.port, dice)
            self.clients.append(client)
            await client.run()

    async def _open_poisoned_session(self) -> None:
        """Open a session that kills its workers, and return once it is quarantined."""
        samples = talk(POISONED_RATE_HZ)[: int(POISONED_S * POISONED_RATE_HZ)]
        client = Client(ClientAudio(samples, (), ()), self.client_proxy.port, self._dice, rate_hz=POISONED_RATE_HZ)
        self.roles.poisoned += 1
        speaking = asyncio.create_task(client.run())
        try:
            await eventually_async(lambda: bool(client.session_id), SETTLE_S, "a poisoned session")
            self.poisoned.append(client.session_id)
            await eventually_async(lambda: self._is_quarantined(client), SETTLE_S, "its quarantine")
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            self.roles.poisoned -= 1

    async def _is_quarantined(self, client: Client) -> bool:
        if client.session_id and client.session_id != self.poisoned[-1]:
            self.poisoned[-1] = client.session_id  # power loss took the first one
        try:
            return client.session_id in await leftovers.quarantined(self.redis_process.client, self.keys)
        except (redis.RedisError, OSError):
            return False

    def _has_worker(self) -> bool:
        return any(process.is_alive and not process.is_halted for process in self.roles.of(WORKER))

    async def _role_process(self, role: str, number: int) -> RoleProcess:
        proxy = await self._exit_stack.enter_async_context(TcpProxy(lambda: [self.redis_process.port], self._dice))
        name = f"{role}-{number}"
        older = self.options.older if number % 2 else None
        build = self.build(older or self.options.tree)
        return RoleProcess(role, build, proxy, self._clock(name), self.options.directory / "logs" / f"{name}.log")

    def build(self, tree: Path) -> Build:
        """The source tree and settings of a process."""
        variables = {
            "PYTHONPATH": str(self.options.directory / "engines"), MARK: self.mark,
            "STENOLOG_PARTITIONS": str(PARTITIONS), "STENOLOG_LEASE_MS": str(self.options.lease_ms),
            "STENOLOG_ENGINE": self.engine, "STENOLOG_MAX_BATCH_CLIPS": "1", "STENOLOG_IDLE_TIMEOUT_S": str(IDLE_S),
            "STENOLOG_IDLE_SWEEP_S": "2", "STENOLOG_AUDIO_RETENTION_S": "86400",
            # A client that a fault holds up would have pauses, and its utterances end elsewhere than the expected ones.
            "STENOLOG_PAUSE_MS": "0",
            "STENOLOG_DATA_DIR": str(self.options.directory / "data"), "STENOLOG_QUARANTINE_TRIAL_TIMEOUT_S": "60",
        }  # fmt: skip
        return Build(tree, older_names.settings(tree, variables))

    def _clock(self, name: str) -> Clock:
        clock = Clock(self.library, self.options.directory / f"{name}.clock")
        self._exit_stack.callback(clock.close)
        return clock

    def _background(self, work: Awaitable[None]) -> None:
        self._exit_stack.push_async_callback(cancel, asyncio.ensure_future(work))

    async def _clear(self) -> None:
        await self.roles.clear()
        await self.redis_process.close()


async def run(options: Options, scenario: Scenario) -> Outcome:
    """Run a whole scenario."""
    async with Suite(options, scenario) as suite:
        client_tasks = suite.start_clients()
        started_s = now_s()
        try:
            await suite.play()
            options.log(f"faults over after {now_s() - started_s:.0f} s; waiting for everything to settle")
            return await suite.conclude(client_tasks)
        finally:
            for task in client_tasks:
                task.cancel()
            await asyncio.gather(*client_tasks, return_exceptions=True)
