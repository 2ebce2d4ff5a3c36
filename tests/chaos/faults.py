"""Each kind of fault: how it is injected, and when it ends."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import redis

from tests.chaos.client import Client
from tests.chaos.plan import CLOCK_LEASES, EDGE, HALT_LEASES, HALT_PROJECTOR_S, PROJECTOR, ROLE_OF, Fault
from tests.chaos.recovery import RecoveryMonitor
from tests.chaos.redis_process import RedisProcess
from tests.chaos.role_processes import RoleProcess, RoleProcesses
from tests.chaos.tcp_proxy import TcpProxy
from tests.support.waiting import eventually_async, lasting

REDIS_AWAY_S = (0.3, 4.0)
"""How long Redis is unavailable: up to more than two leases; edges bear thirty seconds."""

PAUSED_MS = (200, 4000)
STALLED_S = (0.5, 4.0)
LINK_STALLED_S = (0.5, 8.0)
"""A caller gives up a call to Redis after five seconds; here the call arrives all the same, late."""


class Targets(NamedTuple):
    """Everything that a fault may strike."""

    roles: RoleProcesses
    redis_process: RedisProcess
    recovery: RecoveryMonitor
    client_proxy: TcpProxy
    clients: Callable[[], Iterable[Client]]
    poison: Callable[[], Awaitable[None]]
    """Opens a session that kills its workers, and returns once it is quarantined."""
    lease_ms: int
    dice: random.Random


async def inject(targets: Targets, fault: Fault) -> None:
    """Inject one fault; returns when it ends, before recovery."""
    action, _, role = fault.kind.partition(" ")
    if role in ROLE_OF:
        process = _target(targets.roles.of(role), fault)
        await (_kill if action == "kill" else _halt)(targets, fault, process)
    elif fault.kind in _REDIS_FAULTS:
        async with targets.redis_process.fault_lock:
            await _REDIS_FAULTS[fault.kind](targets, fault)
    else:
        await _OTHER_FAULTS[fault.kind](targets, fault)


def _target(processes: Iterable[RoleProcess], fault: Fault) -> RoleProcess:
    # Of two joined faults the second needs a victim that the first left running.
    found = [process for process in processes if process.is_alive and not process.is_halted] or list(processes)
    return found[fault.target % len(found)]


async def _kill(targets: Targets, fault: Fault, process: RoleProcess) -> None:
    if not process.is_alive:
        return
    affected = _clients_of(targets, process)
    targets.recovery.begin_takeover(fault.kind, process.pid)
    await targets.roles.kill(process)
    targets.recovery.await_acks(fault.kind, affected)


async def _halt(targets: Targets, fault: Fault, process: RoleProcess) -> None:
    if not process.is_alive:
        return
    affected = _clients_of(targets, process)
    targets.recovery.begin_takeover(fault.kind, process.pid)
    process.send(signal.SIGSTOP)
    leases_s = fault.between(HALT_LEASES) * targets.lease_ms / 1000
    await lasting(fault.between(HALT_PROJECTOR_S) if process.role == PROJECTOR else leases_s)
    process.send(signal.SIGCONT)
    targets.recovery.await_acks(fault.kind, affected)


def _clients_of(targets: Targets, process: RoleProcess) -> list[Client]:
    """The clients of an edge."""
    if process.role != EDGE:
        return []
    ports = {link.port for link in targets.client_proxy.links if link.target == process.port}
    return [client for client in targets.clients() if client.local_port in ports]


async def _redis_stopped(targets: Targets, fault: Fault) -> None:
    await _restart(targets, fault, lambda: targets.redis_process.end(signal.SIGTERM))


async def _redis_killed(targets: Targets, fault: Fault) -> None:
    await _restart(targets, fault, lambda: targets.redis_process.end(signal.SIGKILL))


async def _power_loss(targets: Targets, fault: Fault) -> None:
    await _restart(targets, fault, targets.redis_process.lose_power)


async def _restart(targets: Targets, fault: Fault, end: Callable[[], Awaitable[None]]) -> None:
    await end()
    await lasting(fault.between(REDIS_AWAY_S))
    await targets.redis_process.start()
    _note_recovery(targets, fault)


async def _redis_paused(targets: Targets, fault: Fault) -> None:
    try:
        await targets.redis_process.pause(int(fault.between(PAUSED_MS)))
    except (redis.RedisError, OSError):
        return  # another fault stopped it already
    await eventually_async(targets.redis_process.answers)
    _note_recovery(targets, fault)


async def _redis_halted(targets: Targets, fault: Fault) -> None:
    targets.redis_process.send(signal.SIGSTOP)
    await lasting(fault.between(REDIS_AWAY_S))
    targets.redis_process.send(signal.SIGCONT)
    await eventually_async(targets.redis_process.answers)
    _note_recovery(targets, fault)


def _note_recovery(targets: Targets, fault: Fault) -> None:
    targets.recovery.restart_timers()
    targets.recovery.await_acks(fault.kind, targets.clients())


async def _clients_cut(targets: Targets, fault: Fault) -> None:
    links = sorted(targets.client_proxy.links, key=lambda link: link.port)
    chosen = targets.dice.sample(links, k=max(1, int(fault.severity * len(links)))) if links else []
    ports = {link.port for link in chosen}
    for link in chosen:
        link.cut()
    targets.recovery.await_acks(fault.kind, [one for one in targets.clients() if one.local_port in ports])


async def _clients_stalled(targets: Targets, fault: Fault) -> None:
    targets.client_proxy.stall()
    await lasting(fault.between(STALLED_S))
    targets.client_proxy.resume()
    targets.recovery.await_acks(fault.kind, targets.clients())


async def _redis_links_cut(targets: Targets, fault: Fault) -> None:
    process = _target(targets.roles.processes, fault)
    for link in list(process.proxy.links):
        link.cut()
    targets.recovery.await_acks(fault.kind, _clients_of(targets, process))


async def _redis_link_stalled(targets: Targets, fault: Fault) -> None:
    process = _target(targets.roles.processes, fault)
    if process.is_alive:
        targets.recovery.begin_takeover(fault.kind, process.pid)
    process.proxy.stall()
    await lasting(fault.between(LINK_STALLED_S))
    process.proxy.resume()
    targets.recovery.await_acks(fault.kind, _clients_of(targets, process))


async def _redis_clock(targets: Targets, fault: Fault) -> None:
    _step(targets, fault, targets.redis_process.clock.step, targets.redis_process.clock.step_ms)
    # Claims may have moved from live workers, which see the step at their next renewal.
    targets.recovery.restart_timers()


async def _process_clock(targets: Targets, fault: Fault) -> None:
    clock = _target(targets.roles.processes, fault).clock
    _step(targets, fault, clock.step, clock.step_ms)


def _step(targets: Targets, fault: Fault, step: Callable[[int], None], so_far_ms: int) -> None:
    by_ms = int(fault.between(CLOCK_LEASES) * targets.lease_ms)
    # Towards the true time, so that many steps don't add up to minutes.
    step(by_ms if so_far_ms * by_ms <= 0 else -by_ms)


async def _poisoned(targets: Targets, _fault: Fault) -> None:
    await targets.poison()
    targets.recovery.restart_timers()


_REDIS_FAULTS: dict[str, Callable[[Targets, Fault], Awaitable[None]]] = {
    "redis stopped": _redis_stopped, "redis killed": _redis_killed, "power loss": _power_loss,
    "redis paused": _redis_paused, "redis halted": _redis_halted,
}  # fmt: skip
_OTHER_FAULTS: dict[str, Callable[[Targets, Fault], Awaitable[None]]] = {
    "clients cut": _clients_cut, "clients stalled": _clients_stalled,
    "redis links cut": _redis_links_cut, "redis link stalled": _redis_link_stalled,
    "redis clock": _redis_clock, "process clock": _process_clock, "poisoned session": _poisoned,
}  # fmt: skip
