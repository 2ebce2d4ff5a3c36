"""Whether clients' work has to wait, and a recogniser for replays that then lets it go first."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

from eventlog.keys import READ_MODELS
from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from eventlog.work.heartbeats import read_all
from eventlog.work.lag import read_lag
from processor.recognisers import Clip, Recogniser, Recognition

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at how long clients wait: a look costs Redis a millisecond, and a wait is noticed in a second."""

FRESH_MS = 10_000
"""Workers beat every 3 s; one that was silent for longer is dead, or about to be taken for it."""


async def waiting_s(server: Server) -> float:
    """How long the most delayed of clients' work waits: for a worker, for its text, or for a read model.

    Where no worker for clients gives signs of life, nothing does: holding anything back would help nobody.

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
    """Shut while clients wait for longer than a bound."""

    def __init__(self, server: Server, most_s: float) -> None:
        """Look in `server`; 0 never shuts it."""
        self._server = server
        self._most_s = most_s
        self.open = threading.Event()
        self.open.set()

    async def run(self) -> None:
        """Look until cancelled, and leave the gate open then."""
        try:
            while self._most_s:
                await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            self.open.set()

    async def look(self) -> None:
        """Open or shut it by how long clients wait now; trouble with Redis changes nothing."""
        try:
            waits_s = await waiting_s(self._server)
        except LogUnavailableError as error:
            logger.warning("clients' lag not read, trying again", extra={"error": error})
            return
        is_busy = waits_s > self._most_s
        if is_busy == self.open.is_set():
            words = "replays held back: clients wait" if is_busy else "replays go on"
            logger.info(words, extra={"waiting_s": round(waits_s, 3), "most_s": self._most_s})
        if is_busy:
            self.open.clear()
        else:
            self.open.set()


class YieldingRecogniser:
    """A recogniser that begins nothing while the gate is shut; reading stops by itself behind what then waits."""

    def __init__(self, recogniser: Recogniser, gate: threading.Event) -> None:
        """Recognise by `recogniser`, which this closes, while `gate` is set."""
        self._recogniser = recogniser
        self._gate = gate
        self.name = recogniser.name
        self.max_batch = recogniser.max_batch
        self.max_parallel = recogniser.max_parallel

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """As the recogniser, later perhaps."""
        self._gate.wait()
        return self._recogniser.recognise(clips)

    def close(self) -> None:
        """Let go whoever waits, and close the recogniser."""
        self._gate.set()
        self._recogniser.close()
