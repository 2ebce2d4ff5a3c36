"""One run: the stack is started, clients speak, faults strike, all settles, and everything is judged."""

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
from tests.chaos import hygiene
from tests.chaos.clock import Clock, compiled
from tests.chaos.engines import installed
from tests.chaos.faults import Scene, strike
from tests.chaos.gate import Gate
from tests.chaos.plan import EDGE, POISONED_RATE_HZ, PROJECTOR, WORKER, Fault, Script
from tests.chaos.records import record
from tests.chaos.speaker import Speaker
from tests.chaos.stack import MARK, Place, Slot, Stack, ended, now_s, orphans
from tests.chaos.store import Store
from tests.chaos.verdict import Findings, judge
from tests.chaos.voices import Voice, voice
from tests.chaos.watch import Watch
from tests.support.pcm import talk
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async, lasting

PARTITIONS = 8
"""Few, so that looking at all of them costs little; several, so that sessions are spread."""

IDLE_S = 20
"""Longer than any client is away here; a session whose end power loss took back is over after this."""

SETTLE_S = 180.0
"""Bound of everything that has to come to rest: seconds on a calm machine."""

ROLES = (EDGE, WORKER, PROJECTOR)
GHOST_STEP_MS = 4_000_000
"""Redis's clock goes forward by so much at the end, and whoever was silent for long has to be gone."""

POISONED_S = 3.0
"""Of speech that kills whoever recognises it."""


class Options(NamedTuple):
    """How to run."""

    directory: Path
    engine: str = "mock"
    lease_ms: int = 1_500
    seats: int = 8
    """Clients that speak at a time."""
    each: int = 2
    """Processes of each role."""
    tree: Path = ROOT
    older: Path | None = None
    """A tree of an older version, which every other slot is run from."""
    tell: Callable[[str], None] = lambda _: None


@dataclass
class Outcome:
    """What came of a run."""

    findings: Findings = field(default_factory=Findings)
    faults: list[tuple[Fault, float]] = field(default_factory=list)
    """And when each struck."""
    sessions: int = 0
    poisoned: int = 0
    vanished: int = 0
    """Sessions that power loss took whole: opened when nobody had it on disk."""
    connections: int = 0
    resets: int = 0
    lost_bytes: int = 0
    deaths_by_poison: int = 0
    tried_alone: set[str] = field(default_factory=set)
    """Sessions that were suspected, for the faults had struck three workers before any commit of theirs."""
    left: list[str] = field(default_factory=list)
    """What was not tidied up."""
    watch: Watch | None = None


class Suite:
    """Everything that runs, as long as it is entered."""

    def __init__(self, options: Options, script: Script) -> None:
        """Will follow `script`."""
        self.options = options
        self.script = script
        self.keys = Keys(PARTITIONS)
        self.mark = uuid.uuid4().hex
        self.speakers: list[Speaker] = []
        self.poisoned: list[str] = []
        self.outcome = Outcome()
        self.stopping = asyncio.Event()
        """No new sessions any more."""
        self.library: Path | None = None
        self._dice = random.Random(f"{script.seed}/run")
        self._stack_ = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        directory = self.options.directory
        (directory / "logs").mkdir(parents=True)
        self.library = compiled(directory)
        self.engine = installed(directory / "engines", self.options.engine)
        self.store = Store(directory / "redis", self._clock("redis"))
        self.watch = self.outcome.watch = Watch(self.store, self.keys, self._attended)
        self.stack = Stack(self.store, self._dice)
        self._stack_.push_async_callback(self._clear)
        await self.store.start()
        self.clients = await self._stack_.enter_async_context(Gate(self.stack.serving, self._dice))
        for work in (self.store.watch_syncs(), self.stack.supervise(), self.watch.run(lambda: self.speakers)):
            self._background(work)
        slots = [await self._slot(role, number) for role in ROLES for number in range(self.options.each)]
        await self.stack.begin(slots)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack_.aclose()

    @property
    def speaking(self) -> list[Speaker]:
        """The clients that are not done."""
        return [speaker for speaker in self.speakers if speaker.end is None and not speaker.faults]

    def seats(self) -> list[asyncio.Task[None]]:
        """Start the clients."""
        return [asyncio.create_task(self._seat(seat)) for seat in range(self.options.seats)]

    async def play(self) -> None:
        """Strike one fault after the other, each once the one before is over and got over, unless they are joined."""
        scene = Scene(
            self.stack, self.store, self.watch, self.clients, lambda: self.speaking, self._poison,
            self.options.lease_ms, self._dice,
        )  # fmt: skip
        joined: list[Awaitable[None]] = []
        if self.script.faults:
            await eventually_async(self._all_speak, SETTLE_S, "every client is acked")
        for fault in self.script.faults:
            self.options.tell(f"{fault.number + 1:4} {fault.kind}{' (joined)' if fault.joined else ''}")
            self.outcome.faults.append((fault, now_s()))
            joined.append(asyncio.create_task(strike(scene, fault)))
            if fault.joined:
                await lasting(fault.share)
                continue
            await asyncio.gather(*joined)
            joined.clear()
            await eventually_async(self.settled, SETTLE_S, f"the stack is whole again after {fault}")
        await asyncio.gather(*joined)

    def _all_speak(self) -> bool:
        """Whether there is something to strike: everybody speaks, and some session is held."""
        speaking = [speaker for speaker in self.speaking if speaker.acks]
        return len(speaking) == self.options.seats and bool(self.watch.holders)

    async def settled(self) -> bool:
        """Whether all is whole: every process works, and some worker has every session."""
        workers = {slot.pid for slot in self.stack.of(WORKER)}
        if self.watch.unheld or not workers.issuperset(self.watch.holders.values()):
            return False
        return all([await self.stack.works(slot) for slot in self.stack.slots])

    async def conclude(self, seats: Sequence[asyncio.Task[None]]) -> Outcome:
        """Let all come to its end, and judge it."""
        self.stopping.set()
        await asyncio.gather(*seats)
        await eventually_async(self.settled, SETTLE_S, "the stack is whole at the end")
        await self._over()
        outcome, client = self.outcome, self.store.client
        for speaker in self.speakers:
            found = await record(client, self.keys.of(speaker.session_id), speaker.voice.channels)
            judge(outcome.findings, speaker, found, self.store.losses, self.engine)
            outcome.connections += speaker.connections
            outcome.resets += speaker.resets
            outcome.vanished += len(speaker.vanished)
        outcome.sessions, outcome.poisoned = len(self.speakers), len(self.poisoned)
        outcome.lost_bytes = sum(loss.lost_bytes for loss in self.store.losses)
        outcome.deaths_by_poison = self.stack.deaths_by_poison
        await self._look_for_remains()
        return outcome

    async def _over(self) -> None:
        """Return when nothing is under way any more; what still is then is a finding."""
        found: list[str] = []

        async def look() -> bool:
            found[:] = await hygiene.pending(self.store.client, self.keys)
            return not found

        try:
            await eventually_async(look, SETTLE_S)
        except AssertionError:
            self.outcome.left += found

    async def _look_for_remains(self) -> None:
        outcome, client, keys = self.outcome, self.store.client, self.keys
        outcome.left += [f"no TTL: {name}" for name in await hygiene.unowned(client, keys)]
        outcome.left += await hygiene.letters(client, keys)
        seconds, _ = await client.time()
        outcome.left += await hygiene.reservations(client, seconds * 1000 + 1000)
        aside = await hygiene.set_aside(client, keys)
        outcome.left += [f"set aside: {one}: {why}" for one, why in aside.items() if one not in self.poisoned]
        outcome.left += [f"poisoned and not set aside: {one}" for one in self.poisoned if one not in aside]
        outcome.left += await self._strangers()
        outcome.left += await self._ghosts()
        outcome.left += [
            f"{slot.name} ended by itself: {slot.unasked_exits}" for slot in self.stack.slots if slot.unasked_exits
        ]
        outcome.left += [f"{name} ended with {code}" for name, code in (await self.stack.end()).items() if code]
        outcome.left += [f"left running: {one}" for one in orphans(self.mark)]
        logs = [slot.log for slot in self.stack.slots]
        outcome.left += hygiene.errors(logs)
        outcome.tried_alone = hygiene.tried_alone(logs)

    async def _strangers(self) -> list[str]:
        """Sessions that no client knows: opened when their client had gone, so there must be nothing in them."""
        known = {*self.poisoned, *(speaker.session_id for speaker in self.speakers)}
        found = []
        for partition in self.keys.partitions:
            for member in await self.store.client.zrange(partition.index, 0, -1):
                session_id = member.decode().partition(" ")[0]
                if session_id in known:
                    continue
                there = await record(self.store.client, self.keys.of(session_id), 1)
                if there.audio.end_samples or len(there.facts) > len(("opened", "ended")):
                    found.append(f"a session that nobody opened has audio: {session_id}")
        return found

    async def _ghosts(self) -> list[str]:
        if self.library is None:
            return []
        self.store.clock.step(GHOST_STEP_MS)
        found: list[str] = []

        async def look() -> bool:
            living = [slot.pid for slot in self.stack.slots]
            found[:] = await hygiene.ghosts(self.store.client, self.keys, living)
            return not found

        try:
            await eventually_async(look, SETTLE_S)
        except AssertionError:
            return found
        return []

    async def _seat(self, number: int) -> None:
        for speech in self.script.speeches(number):
            if self.stopping.is_set() and speech.number:
                return
            dice = random.Random(f"{self.script.seed}/{number}/{speech.number}/client")
            speaker = Speaker(voice(speech), self.clients.port, dice)
            self.speakers.append(speaker)
            await speaker.run()

    async def _poison(self) -> None:
        """Bring a session that kills its workers, and return when it is set aside."""
        samples = talk(POISONED_RATE_HZ)[: int(POISONED_S * POISONED_RATE_HZ)]
        speaker = Speaker(Voice(samples, (), ()), self.clients.port, self._dice, rate_hz=POISONED_RATE_HZ)
        self.stack.poisoned += 1
        speaking = asyncio.create_task(speaker.run())
        try:
            await eventually_async(lambda: bool(speaker.session_id), SETTLE_S, "a poisoned session is opened")
            self.poisoned.append(speaker.session_id)
            await eventually_async(lambda: self._aside(speaker), SETTLE_S, "the poisoned session is set aside")
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            self.stack.poisoned -= 1

    async def _aside(self, speaker: Speaker) -> bool:
        if speaker.session_id and speaker.session_id != self.poisoned[-1]:
            self.poisoned[-1] = speaker.session_id  # power loss took the first one
        try:
            return speaker.session_id in await hygiene.set_aside(self.store.client, self.keys)
        except (redis.RedisError, OSError):
            return False

    def _attended(self) -> bool:
        return any(slot.lives and not slot.halted for slot in self.stack.of(WORKER))

    async def _slot(self, role: str, number: int) -> Slot:
        gate = await self._stack_.enter_async_context(Gate(lambda: [self.store.port], self._dice))
        name = f"{role}-{number}"
        older = self.options.older if number % 2 else None
        place = self.place(older or self.options.tree)
        return Slot(role, place, gate, self._clock(name), self.options.directory / "logs" / f"{name}.log")

    def place(self, tree: Path) -> Place:
        """What the processes of a tree are told."""
        return Place(tree, {
            "PYTHONPATH": str(self.options.directory / "engines"), MARK: self.mark,
            "STENOLOG_PARTITIONS": str(PARTITIONS), "STENOLOG_LEASE_MS": str(self.options.lease_ms),
            "STENOLOG_ENGINE": self.engine, "STENOLOG_MAX_BATCH_CLIPS": "1", "STENOLOG_IDLE_TIMEOUT_S": str(IDLE_S),
            "STENOLOG_IDLE_SWEEP_S": "2", "STENOLOG_AUDIO_RETENTION_S": "86400",
            "STENOLOG_DATA_DIR": str(self.options.directory / "data"), "STENOLOG_QUARANTINE_TRIAL_TIMEOUT_S": "60",
        })  # fmt: skip

    def _clock(self, name: str) -> Clock:
        clock = Clock(self.library, self.options.directory / f"{name}.clock")
        self._stack_.callback(clock.close)
        return clock

    def _background(self, work: Awaitable[None]) -> None:
        self._stack_.push_async_callback(ended, asyncio.ensure_future(work))

    async def _clear(self) -> None:
        await self.stack.clear()
        await self.store.close()


async def run(options: Options, script: Script) -> Outcome:
    """All of it."""
    async with Suite(options, script) as suite:
        seats = suite.seats()
        began_s = now_s()
        try:
            await suite.play()
            options.tell(f"faults over after {now_s() - began_s:.0f} s; waiting for everything to settle")
            return await suite.conclude(seats)
        finally:
            for seat in seats:
                seat.cancel()
            await asyncio.gather(*seats, return_exceptions=True)
