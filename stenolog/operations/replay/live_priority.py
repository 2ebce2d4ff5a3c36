"""Priority of clients' work over replays: a gate that shuts while clients wait, and a recogniser behind it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from eventlog.keys import READ_MODELS
from eventlog.redis.server import Server
from eventlog.service import ServiceTasks, periodically
from eventlog.work.heartbeats import read_all
from eventlog.work.lag import read_lag
from processor.recognisers import Clip, Recogniser, Recognition

logger = logging.getLogger(__name__)

CHECK_PERIOD_S = 1.0
"""Between two checks of how long clients wait: each costs Redis a millisecond, and a wait is noticed in a second."""

FRESH_MS = 10_000
"""Workers beat every 3 s; one that was silent for longer is dead, or soon taken for dead."""


async def waiting_s(server: Server) -> float:
    """How long the most delayed of clients' work waits: for a worker, for its text, or for a read model.

    Without a living worker for clients it is 0: holding replays back would help no client.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    fresh = [beat for beat in await read_all(server) if beat.age_ms < FRESH_MS]
    workers = [beat for beat in fresh if beat.role == "worker"]
    if not workers:
        return 0.0
    lag = await read_lag(server)
    alive = {beat.role.removeprefix("projection.") for beat in fresh}
    return max(
        lag.unclaimed_s,
        *(float(beat.payload.get("oldest_decision_s", 0.0)) for beat in workers),
        *(lag.projections_s.get(name, 0.0) for name in READ_MODELS if name in alive),
    )


class LivePriority:
    """A gate that is shut while clients wait for longer than a bound: a `Service`."""

    def __init__(self, server: Server, max_wait_s: float) -> None:
        """Read the waits from `server`; with 0 the gate never shuts."""
        self._server = server
        self._max_wait_s = max_wait_s
        self.open = threading.Event()
        self.open.set()
        self._tasks = ServiceTasks()

    async def start(self) -> None:
        """Check periodically, unless the bound is 0."""
        if self._max_wait_s:
            work = periodically(CHECK_PERIOD_S, self.check, name="live priority", at_once=True)
            self._tasks.spawn("live priority", work)

    async def wait(self) -> None:
        """See `eventlog.service.Service`."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """Check no more, and leave the gate open."""
        await self._tasks.stop()
        self.open.set()

    async def check(self) -> None:
        """Open or shut the gate by how long clients wait now.

        Raises:
            LogUnavailableError: if Redis can't be reached; the gate stays as it was.
        """
        wait_s = await waiting_s(self._server)
        is_busy = wait_s > self._max_wait_s
        if is_busy == self.open.is_set():
            words = "replays paused: clients wait" if is_busy else "replays resumed"
            logger.info(words, extra={"waiting_s": round(wait_s, 3), "max_wait_s": self._max_wait_s})
        if is_busy:
            self.open.clear()
        else:
            self.open.set()


class YieldingRecogniser:
    """A recogniser that begins nothing while the gate is shut; back-pressure then stops the reading as well."""

    def __init__(self, recogniser: Recogniser, gate: threading.Event) -> None:
        """Recognise by `recogniser`, which this closes, while `gate` is set."""
        self._recogniser = recogniser
        self._gate = gate
        self.name = recogniser.name
        self.max_batch = recogniser.max_batch
        self.max_parallel = recogniser.max_parallel
        self.languages = recogniser.languages
        self.model = recogniser.model

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Recognise once the gate is open."""
        self._gate.wait()
        return self._recogniser.recognise(clips)

    def close(self) -> None:
        """Release the calls that wait, and close the recogniser."""
        self._gate.set()
        self._recogniser.close()
