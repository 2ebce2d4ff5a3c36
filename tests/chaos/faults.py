"""Each kind of fault: how it is made, and when it is over."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import redis

from tests.chaos.gate import Gate
from tests.chaos.plan import CLOCK_LEASES, EDGE, HALT_LEASES, HALT_PROJECT_S, PROJECTOR, ROLE_OF, Fault
from tests.chaos.speaker import Speaker
from tests.chaos.stack import Slot, Stack
from tests.chaos.store import Store
from tests.chaos.watch import Watch
from tests.support.waiting import eventually_async, lasting

REDIS_AWAY_S = (0.3, 4.0)
"""How long Redis is away or stalled: up to more than two leases; edges bear thirty seconds."""

PAUSED_MS = (200, 4000)
STALLED_S = (0.5, 4.0)
LINK_STALLED_S = (0.5, 8.0)
"""Past five seconds a call to Redis has failed, for whoever made it; here it comes through all the same, late."""


class Scene(NamedTuple):
    """All that a fault may strike."""

    stack: Stack
    store: Store
    watch: Watch
    clients: Gate
    speakers: Callable[[], Iterable[Speaker]]
    poison: Callable[[], Awaitable[None]]
    """Brings a session that kills its workers, and returns when it is set aside."""
    lease_ms: int
    dice: random.Random


async def strike(scene: Scene, fault: Fault) -> None:
    """Make one fault; returns when it is over, though not yet recovered from."""
    verb, _, role = fault.kind.partition(" ")
    if role in ROLE_OF:
        slot = _victim(scene.stack.of(role), fault)
        await (_kill if verb == "kill" else _halt)(scene, fault, slot)
    elif fault.kind in _OF_REDIS:
        async with scene.store.struck:
            await _OF_REDIS[fault.kind](scene, fault)
    else:
        await _OTHERS[fault.kind](scene, fault)


def _victim(slots: Iterable[Slot], fault: Fault) -> Slot:
    # One that is dead or halted already, two faults being joined, would be no victim.
    found = [slot for slot in slots if slot.lives and not slot.halted] or list(slots)
    return found[fault.victim % len(found)]


async def _kill(scene: Scene, fault: Fault, slot: Slot) -> None:
    if not slot.lives:
        return
    affected = _served(scene, slot)
    scene.watch.strike_worker(fault.kind, slot.pid)
    await scene.stack.kill(slot)
    scene.watch.strike_acks(fault.kind, affected)


async def _halt(scene: Scene, fault: Fault, slot: Slot) -> None:
    if not slot.lives:
        return
    affected = _served(scene, slot)
    scene.watch.strike_worker(fault.kind, slot.pid)
    slot.send(signal.SIGSTOP)
    leases_s = fault.between(HALT_LEASES) * scene.lease_ms / 1000
    await lasting(fault.between(HALT_PROJECT_S) if slot.role == PROJECTOR else leases_s)
    slot.send(signal.SIGCONT)
    scene.watch.strike_acks(fault.kind, affected)


def _served(scene: Scene, slot: Slot) -> list[Speaker]:
    """The clients that are connected to an edge."""
    if slot.role != EDGE:
        return []
    ports = {link.port for link in scene.clients.links if link.target == slot.port}
    return [speaker for speaker in scene.speakers() if speaker.local_port in ports]


async def _redis_stopped(scene: Scene, fault: Fault) -> None:
    await _restart(scene, fault, lambda: scene.store.end(signal.SIGTERM))


async def _redis_killed(scene: Scene, fault: Fault) -> None:
    await _restart(scene, fault, lambda: scene.store.end(signal.SIGKILL))


async def _power_loss(scene: Scene, fault: Fault) -> None:
    await _restart(scene, fault, scene.store.lose_power)


async def _restart(scene: Scene, fault: Fault, end: Callable[[], Awaitable[None]]) -> None:
    await end()
    await lasting(fault.between(REDIS_AWAY_S))
    await scene.store.start()
    _back(scene, fault)


async def _redis_paused(scene: Scene, fault: Fault) -> None:
    try:
        await scene.store.pause(int(fault.between(PAUSED_MS)))
    except (redis.RedisError, OSError):
        return  # it is away already
    await eventually_async(scene.store.answers)
    _back(scene, fault)


async def _redis_halted(scene: Scene, fault: Fault) -> None:
    scene.store.send(signal.SIGSTOP)
    await lasting(fault.between(REDIS_AWAY_S))
    scene.store.send(signal.SIGCONT)
    await eventually_async(scene.store.answers)
    _back(scene, fault)


def _back(scene: Scene, fault: Fault) -> None:
    scene.watch.disturb()
    scene.watch.strike_acks(fault.kind, scene.speakers())


async def _clients_cut(scene: Scene, fault: Fault) -> None:
    links = sorted(scene.clients.links, key=lambda link: link.port)
    chosen = scene.dice.sample(links, k=max(1, int(fault.share * len(links)))) if links else []
    ports = {link.port for link in chosen}
    for link in chosen:
        link.doom()
    scene.watch.strike_acks(fault.kind, [one for one in scene.speakers() if one.local_port in ports])


async def _clients_stalled(scene: Scene, fault: Fault) -> None:
    scene.clients.stall()
    await lasting(fault.between(STALLED_S))
    scene.clients.flow()
    scene.watch.strike_acks(fault.kind, scene.speakers())


async def _redis_links_cut(scene: Scene, fault: Fault) -> None:
    slot = _victim(scene.stack.slots, fault)
    for link in list(slot.gate.links):
        link.doom()
    scene.watch.strike_acks(fault.kind, _served(scene, slot))


async def _redis_link_stalled(scene: Scene, fault: Fault) -> None:
    slot = _victim(scene.stack.slots, fault)
    if slot.lives:
        scene.watch.strike_worker(fault.kind, slot.pid)
    slot.gate.stall()
    await lasting(fault.between(LINK_STALLED_S))
    slot.gate.flow()
    scene.watch.strike_acks(fault.kind, _served(scene, slot))


async def _redis_clock(scene: Scene, fault: Fault) -> None:
    _step(scene, fault, scene.store.clock.step, scene.store.clock.step_ms)
    # Claims may have moved from the living, who see the step at their next renewal.
    scene.watch.disturb()


async def _process_clock(scene: Scene, fault: Fault) -> None:
    clock = _victim(scene.stack.slots, fault).clock
    _step(scene, fault, clock.step, clock.step_ms)


def _step(scene: Scene, fault: Fault, step: Callable[[int], None], so_far_ms: int) -> None:
    by_ms = int(fault.between(CLOCK_LEASES) * scene.lease_ms)
    # Back towards the true time, so that many steps don't add up to minutes.
    step(by_ms if so_far_ms * by_ms <= 0 else -by_ms)


async def _poisoned(scene: Scene, _fault: Fault) -> None:
    await scene.poison()
    scene.watch.disturb()


_OF_REDIS: dict[str, Callable[[Scene, Fault], Awaitable[None]]] = {
    "redis stopped": _redis_stopped, "redis killed": _redis_killed, "power loss": _power_loss,
    "redis paused": _redis_paused, "redis halted": _redis_halted,
}  # fmt: skip
_OTHERS: dict[str, Callable[[Scene, Fault], Awaitable[None]]] = {
    "clients cut": _clients_cut, "clients stalled": _clients_stalled,
    "redis links cut": _redis_links_cut, "redis link stalled": _redis_link_stalled,
    "redis clock": _redis_clock, "process clock": _process_clock, "poisoned session": _poisoned,
}  # fmt: skip
