"""The worker as a process, for clients or for replays, and the quarantine trial of a run in one of its own."""

import asyncio
import os
import sys
from collections.abc import Sequence

from processor.quarantine import QuarantineTrial
from processor.quarantine_trial import command_trial, parse_claim, run_trial
from processor.settings import WorkerSettings
from processor.worker import Worker
from stenolog import wiring
from stenolog.errors import FAILED, UserError
from stenolog.operations.replay.live_priority import LivePriority, YieldingRecogniser
from stenolog.roles.metrics_endpoint import exposed
from stenolog.roles.runner import serve
from stenolog.settings import Settings


async def serve_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Work until stopped, then hand every run over."""
    worker_settings = wiring.worker_settings(settings)
    # In a thread: a model takes seconds to load, and the process must handle signals meanwhile.
    recogniser = await asyncio.to_thread(wiring.recogniser, settings)
    try:
        async with wiring.connected(settings) as server, exposed(server.meter, settings, "worker"):
            await serve(stop, Worker(server, worker_settings, recogniser, trial=_trial(settings, worker_settings)))
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
            priority = LivePriority(server, settings.replay_yield_s)
            yielding = YieldingRecogniser(recogniser, priority.open)
            worker = Worker(server, worker_settings, yielding, trial=_trial(settings, worker_settings))
            await serve(stop, priority, worker)
    finally:
        recogniser.close()


def _trial(settings: Settings, worker_settings: WorkerSettings) -> QuarantineTrial:
    options = ["--data", settings.data_dir, "--engine", settings.engine, "--model", settings.model]
    command = [sys.executable, "-m", "stenolog", "quarantine-trial", *options]
    return command_trial(command, worker_settings.quarantine_trial_timeout_s)


async def run_quarantine_trial(settings: Settings, claim_arguments: Sequence[str]) -> None:
    """Process one suspected run under its claim.

    Raises:
        UserError: if it could not be processed; the death of this process is an answer too.
    """
    recogniser = wiring.recogniser(settings)
    async with wiring.connected(settings) as server:
        claim = parse_claim(server, claim_arguments)
        if not await run_trial(server, wiring.worker_settings(settings), recogniser, claim):
            raise UserError(f"run {claim.keys.member} could not be processed", FAILED)
