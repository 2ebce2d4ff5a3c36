"""A deployment in virtual time: sessions, workers and projectors of the product's own code over one model."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import msgspec
import numpy as np

import eventlog
from eventlog.keys import Keys, PartitionKeys, SessionKeys
from eventlog.log import Append, AudioEntry, Claim, Code, LogUnavailableError
from eventlog.positions import SEALED, Position
from eventlog.projection.projection_log import ProjectionLog
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.scripts import script
from processor.recognisers import Clip, Recognition
from processor.recognisers.mock import MockRecogniser
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection_loop import ProjectionLoop
from tests.simulation.monitor import Monitor
from tests.simulation.network import Network, SimulatedServer, SimulatedWakeups
from tests.simulation.redis_model import RedisModel
from tests.simulation.scheduler import Process, SimulatedLoop
from tests.support.pcm import Story, talk
from tests.support.waiting import lasting

LUA = Path(eventlog.__file__).parent / "redis/lua"
LEASE_MS = 5_000
PARTITIONS = 2
SESSION_TTL_S = 100_000
CHUNK_SAMPLES = 2_000
CHECK_S = 0.5
"""Between two checks whether all sessions have ended."""
SAMPLE_RATE_HZ = 8_000
POISONED_RATE_HZ = 16_000
"""Marks poisoned speech."""
SPOKEN_S = 3.0
FINALIZED_AT_S = 2
"""Where the client sends `finalize`: within an utterance, so that a repeated one would show."""

SETTINGS = WorkerSettings(
    lease_ms=LEASE_MS,
    session_ttl_s=SESSION_TTL_S,
    tick_ms=400,  # each read of the streams is a call, and calls dominate the cost of a simulation
    partial_interval_ms=1_000_000,
    sweep_s=20.0,
    idle_ms=10_000_000,
    audio_retention_s=0,
    shared_recognition=False,
    suspicion_limit=2,
)


class OrderedPartition(PartitionKeys):
    """A partition whose order in a set doesn't depend on its address in memory."""

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class PoisonableRecogniser(MockRecogniser):
    """The mock recogniser, whose process dies of poisoned speech."""

    def __init__(self, poisoned: set[int], process: Process) -> None:
        self._poisoned = poisoned
        self._process = process

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Recognise, or die."""
        if any(clip.sample_rate_hz in self._poisoned for clip in clips):
            self._process.kill()
        return super().recognise(clips)


class SimulatedSession:
    """A session, and the story that it sends."""

    def __init__(self, keys: SessionKeys, story: Story) -> None:
        self.keys = keys
        self.run = keys.run()
        self.story = story
        self.entries = story.entries(range(0, len(story.samples), CHUNK_SAMPLES))[1:]
        self.is_sent = False
        self.speaker: Process


class World:
    """All processes, the model and the clock."""

    def __init__(
        self, seed: int, settings: WorkerSettings = SETTINGS, *, kinds: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """All chance follows from `seed` and from the calls, in their order.

        `kinds` names further scripts by their SHA-1: the product's own are known.
        """
        self.loop = SimulatedLoop(seed)
        self.settings = settings
        self.model = RedisModel(self.loop.now_ms)
        named = {**kinds, **{script(path.stem).sha1: path.stem for path in LUA.glob("*.lua")}}
        self.network = Network(self.loop, self.model, named)
        self.keys = Keys(PARTITIONS)
        self.keys.partitions = tuple(OrderedPartition(one.number, one.tag) for one in self.keys.partitions)
        self.monitor = Monitor(self.model, self.keys, self.network, named)
        self.model.observer = self.monitor.observe
        self.sessions: list[SimulatedSession] = []
        self.workers: dict[Process, Worker] = {}
        self.worker_processes: list[Process] = []
        self.projectors: list[Process] = []
        self.poisoned_rates: set[int] = set()
        self.poisoned: set[str] = set()
        self._stack = ExitStack()
        self._stack.enter_context(mock.patch("processor.worker.Wakeups", SimulatedWakeups))
        # Polls without a result dominate the cost of a simulation: partials don't matter here, and a sweep needs no
        # more slices than partitions.
        self._stack.enter_context(mock.patch("processor.partials.LOOK_S", 2.0))
        self._stack.enter_context(mock.patch("projections.projection_loop.SLICES", PARTITIONS))
        self._born = 0
        self._stopping: set[Process] = set()

    def close(self) -> None:
        """End everything."""
        self.network.is_closed = True
        self.model.observer = None
        self.loop.shut()
        self._stack.close()

    # Processes

    def process(self, kind: str) -> Process:
        """A new process."""
        self._born += 1
        return Process(self.loop, f"{kind}-{self._born}")

    def start_worker(self) -> Process:
        """A new worker process."""
        process = self.process("worker")
        self.worker_processes.append(process)
        process.spawn(self._work(process, SimulatedServer(self.network, self.keys, process)))
        return process

    async def _work(self, process: Process, server: SimulatedServer) -> None:
        worker = Worker(
            server, self.settings, PoisonableRecogniser(self.poisoned_rates, process), trial=self._try_alone,
            consumer=process.name,
        )  # fmt: skip
        self.workers[process] = worker
        self.monitor.workers[process.name] = (process, worker)
        while True:
            try:
                await worker.start()
                break
            except LogUnavailableError:
                await lasting(1.0)
        await worker.wait()
        if process not in self._stopping:
            self.monitor.report(f"a task of {process.name} ended")

    async def _try_alone(self, claim: Claim) -> bool:
        """A quarantine trial: whether the run would survive."""
        self.monitor.check_trial(claim.keys.member, self.settings.suspicion_limit)
        await lasting(0.5)
        start = next(one.story for one in self.sessions if one.run.member == claim.keys.member)
        return start.sample_rate_hz not in self.poisoned_rates

    def stop_worker(self, process: Process) -> None:
        """Stop a worker gracefully; it is dead after its hand-over."""

        async def stop() -> None:
            await self.workers[process].stop()
            process.kill()

        if process in self.workers and process not in self._stopping:
            self._stopping.add(process)
            process.disturb()
            process.spawn(stop())

    def start_projector(self) -> Process:
        """A new process with the projections `lists` and `feeds`."""
        process = self.process("projector")
        self.projectors.append(process)
        process.spawn(self._project(process, SimulatedServer(self.network, self.keys, process)))
        return process

    async def _project(self, process: Process, server: SimulatedServer) -> None:
        projectors = [
            ProjectionLoop(one, ProjectionLog(server, one.name, process.name, session_ttl_s=SESSION_TTL_S))
            for one in (Lists(), Feeds())
        ]
        channels = {one.changes_wakeup: one.number for one in self.keys.partitions}

        def wake(partition: int | None) -> None:
            for projector in projectors:
                projector.wake(partition)

        await SimulatedWakeups(server, list(channels), lambda name, _: wake(channels[name]), lambda: wake(None)).start()
        await asyncio.gather(*(one.run(asyncio.Event()) for one in projectors))

    def speak(self, seconds: float = SPOKEN_S, rate_hz: int = SAMPLE_RATE_HZ, channels: int = 1) -> SimulatedSession:
        """A new session, whose client starts at once in a process of its own."""
        samples = np.resize(talk(rate_hz, channels), (int(seconds * rate_hz), channels))
        story = Story(samples, rate_hz, finalized=[rate_hz * FINALIZED_AT_S] if seconds > FINALIZED_AT_S else [])
        keys = self.keys.of(f"session-{len(self.sessions)}")
        session = SimulatedSession(keys, story)
        self.sessions.append(session)
        self.monitor.expect(session.run, story)
        session.speaker = process = self.process("speaker")
        process.spawn(self._send(session, SimulatedServer(self.network, self.keys, process)))
        return session

    def poison(self) -> None:
        """A session that kills its recogniser's process."""
        self.poisoned_rates.add(POISONED_RATE_HZ)
        self.poisoned.add(self.speak(SPOKEN_S, POISONED_RATE_HZ).run.member)

    async def _send(self, session: SimulatedSession, server: SimulatedServer) -> None:
        log = RedisLog(server, session_ttl_s=SESSION_TTL_S)
        start = msgspec.structs.replace(session.story.start, session_id=session.keys.session_id)
        await _retry(lambda: log.open(session.keys, start, "token"))
        epoch, head = await _resumed(log, session)
        while left := [one for one in session.entries if one.position > head]:
            # In batches, as an edge appends them, and in real time.
            part = left[: 1 + int(self.loop.random.random() * 4)]
            await lasting(len(part) * CHUNK_SAMPLES / session.story.sample_rate_hz)
            try:
                answers = await log.append(_appends(session.keys, epoch, head, part))
            except LogUnavailableError:
                answers = []
            if answers and all(one.code == Code.OK for one in answers):
                head = part[-1].position
            else:
                epoch, head = await _resumed(log, session)
        session.is_sent = True

    # The end

    def alive(self, processes: Sequence[Process]) -> list[Process]:
        """Those that run."""
        return [one for one in processes if not one.is_dead]

    def check(self) -> None:
        """Check that every invariant held at every step so far."""
        self.monitor.check_read_models()
        if wrong := self.monitor.violations + self.loop.failures:
            raise AssertionError("; ".join(wrong))

    def heal(self) -> None:
        """End all faults."""
        self.network.heal()
        for process in self.loop.processes:
            process.frozen_until_s = min(process.frozen_until_s, self.loop.time())

    def settle(self, most_s: float) -> None:
        """With a worker and a projector alive, wait until each session's end is in every read model."""
        end_s = self.loop.time() + most_s
        while not all(map(self._is_settled, self.sessions)):
            assert self.loop.time() < end_s, f"not settled: {self._unsettled()}"
            if not self.alive(self.worker_processes):
                self.start_worker()
            if not self.alive(self.projectors):
                self.start_projector()
            self.loop.run_for(CHECK_S)
            self.check()
        self.monitor.check_end(self.poisoned)
        self.check()

    def _is_settled(self, session: SimulatedSession) -> bool:
        if session.run.member in self.monitor.quarantined():
            return True
        positions = [self.model.execute(("GET", session.run.projected(name))) for name in ("lists", "feeds")]
        return positions == [str(SEALED).encode()] * 2

    def _unsettled(self) -> list[str]:
        return [one.run.member for one in self.sessions if not self._is_settled(one)]


async def _retry(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - the call's own answer
    while True:
        try:
            return await call()
        except LogUnavailableError:
            await lasting(0.5)


async def _resumed(log: RedisLog, session: SimulatedSession) -> tuple[int, Position]:
    """The epoch and head of a new connection, which supersedes the older one."""
    opened = await _retry(lambda: log.resume(session.keys, "token"))
    if opened.code == Code.SEALED:
        return 0, SEALED
    assert opened.code == Code.OK, opened
    return opened.epoch, opened.head


def _appends(keys: SessionKeys, epoch: int, head: Position, entries: Sequence[AudioEntry]) -> list[Append]:
    appends = []
    for entry in entries:
        payload = entry.event if entry.pcm is None else entry.pcm
        assert payload is not None
        appends.append(Append(keys, epoch, head, entry.position, payload, entry.pcm is not None))
        head = entry.position
    return appends
