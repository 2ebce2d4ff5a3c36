"""The worker as a process, for clients or for replays, and the trial of a suspected session in one of its own."""

import asyncio
import os
import sys
from collections.abc import Sequence

from processor.quarantine import SoloTrial
from processor.quarantine_trial import parse_claim, run_alone, spawning
from processor.settings import WorkerSettings
from processor.worker import Worker
from stenolog import wiring
from stenolog.errors import FAILED, UserError
from stenolog.operations.replay.live_priority import LivePriority, YieldingRecogniser
from stenolog.roles.metrics_endpoint import exposed
from stenolog.settings import Settings


async def serve_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Work until stopped, then hand every session over."""
    worker_settings = wiring.worker_settings(settings)
    # In a thread: a model takes seconds to load, and a signal meanwhile must be heard.
    recogniser = await asyncio.to_thread(wiring.recogniser, settings)
    try:
        async with wiring.connected(settings) as server, exposed(server.meter, settings, "worker"):
            worker = Worker(server, worker_settings, recogniser, try_alone=_trial(settings, worker_settings))
            await _worked(worker, stop)
    finally:
        recogniser.close()


async def serve_replayer(settings: Settings, stop: asyncio.Event) -> None:
    """Work on replays until stopped, as far as clients leave room, then hand every run over."""
    # Before anything starts a thread: each has the niceness of the one that started it.
    os.nice(settings.replay_nice)
    worker_settings = wiring.replayer_settings(settings)
    recogniser = await asyncio.to_thread(wiring.recogniser, settings, use_cores=1)
    try:
        async with wiring.connected(settings) as server, exposed(server.meter, settings, "replayer"):
            gate = LivePriority(server, settings.replay_yield_s)
            yielding = YieldingRecogniser(recogniser, gate.open)
            worker = Worker(server, worker_settings, yielding, try_alone=_trial(settings, worker_settings))
            looking = asyncio.create_task(gate.run())
            try:
                await _worked(worker, stop)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
    finally:
        recogniser.close()


def _trial(settings: Settings, worker_settings: WorkerSettings) -> SoloTrial:
    options = ["--data", settings.data_dir, "--engine", settings.engine, "--model", settings.model]
    return spawning([sys.executable, "-m", "stenolog", "solo", *options], worker_settings.quarantine_trial_timeout_s)


async def _worked(worker: Worker, stop: asyncio.Event) -> None:
    try:
        await worker.start()
        await _until(stop, worker)
    finally:
        await worker.stop()


async def _until(stop: asyncio.Event, worker: Worker) -> None:
    """Return when stopped; raise what ended the worker, if that comes first."""
    stopped = asyncio.create_task(stop.wait())
    failed = asyncio.create_task(worker.wait())
    try:
        await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            await failed
    finally:
        stopped.cancel()
        failed.cancel()


async def try_alone(settings: Settings, claim_arguments: Sequence[str]) -> None:
    """Process one suspected session under its claim.

    Raises:
        UserError: if it could not be processed; dying on the way is an answer too.
    """
    recogniser = wiring.recogniser(settings)
    async with wiring.connected(settings) as server:
        claim = parse_claim(server, claim_arguments)
        if not await run_alone(server, wiring.worker_settings(settings), recogniser, claim):
            raise UserError(f"session {claim.keys.member} could not be processed", FAILED)
