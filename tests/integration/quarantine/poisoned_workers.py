"""Workers that can't process some sessions, and these sessions' state then."""

from collections.abc import Sequence

from eventlog.codec import decode_fact
from eventlog.events import Fact, RunQuarantined, RunRedriven
from eventlog.keys import RunKeys
from eventlog.positions import START
from eventlog.redis.server import Server
from eventlog.work.quarantine import Quarantine, QuarantinedRun, list_quarantined_runs
from processor.recognisers import Clip, RecogniserError, Recognition
from processor.recognisers.mock import MockRecogniser
from tests.support.waiting import eventually_async

TTL_S = 1_000
REASON = "can't take this"


class PickyRecogniser(MockRecogniser):
    """Refuses clips of telephone speech permanently, after the first so many."""

    def __init__(self, accepted: int = 0) -> None:
        """Accepts `accepted` clips of it."""
        super().__init__()
        self.accepted = accepted

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Refuse telephone speech."""
        strange = sum(clip.sample_rate_hz == 8_000 for clip in clips)
        if strange > self.accepted:
            raise RecogniserError(REASON, retryable=False)
        self.accepted -= strange
        return super().recognise(clips)


async def listed(server: Server) -> list[QuarantinedRun]:
    """The quarantined runs."""
    return [one async for one in list_quarantined_runs(server)]


async def wait_quarantined(server: Server, keys: RunKeys) -> QuarantinedRun:
    """A run's list entry, once it has one."""

    async def look() -> list[QuarantinedRun]:
        return [one for one in await listed(server) if one.keys.member == keys.member]

    [found] = await eventually_async(look)
    return found


def acts(server: Server) -> Quarantine:
    """The operator's decisions on such runs."""
    return Quarantine(server, session_ttl_s=TTL_S)


async def facts_of(server: Server, keys: RunKeys) -> list[Fact]:
    """All facts of a run."""
    entries = await server.execute("XRANGE", keys.transcript, f"({START}", "+")
    return [decode_fact(fields[1]) for _, fields in entries]


def standings(facts: Sequence[Fact]) -> list[type[Fact]]:
    """A run's quarantines and redrives, in order."""
    return [type(fact) for fact in facts if isinstance(fact, RunQuarantined | RunRedriven)]
