"""Sessions of any tenant and time, and a replay that tells a test everything."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from eventlog.events import SessionStarted
from stenolog.operations.replay.progress import Pace
from stenolog.operations.replay.replay import Order, Outcome, Replay
from stenolog.operations.replay.retry import Retry
from stenolog.operations.replay.run_overrides import RunOverrides
from stenolog.operations.replay.sources import Replayable, Selection, Source, find_all
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story

QUEUE = "mock"
TTL_S = 1_000
ALL = Selection()


@dataclass
class Told(Story):
    """A story of some tenant, begun at some time."""

    tenant_id: str = ""
    started_ms: int = 0

    @property
    def start(self) -> SessionStarted:
        """The session's first event."""
        return msgspec.structs.replace(super().start, tenant_id=self.tenant_id, started_ms=self.started_ms)


@dataclass
class Watched:
    """A replay in a deployment, and all that it told."""

    deployment: Deployment
    run: str = "again"
    queue: str = QUEUE
    changes: RunOverrides = field(default_factory=lambda: RunOverrides(engine=QUEUE))
    told: list[Outcome] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    paces: list[tuple[int, float]] = field(default_factory=list)
    begun: int = 0

    async def over(self, sessions: Sequence[Replayable], *, wait: bool = True) -> dict[str, tuple[str, str]]:
        """Replay them; how each ended and why, by its id."""
        self.told.clear()
        replay = Replay(
            self.deployment.server, Order(self.run, self.changes, self.queue), session_ttl_s=TTL_S,
            patience=Retry(self.said.append), on_outcome=self.told.append, on_pace=self._note,
        )  # fmt: skip
        await replay.run(sessions, begin=self._begin, wait=wait)
        return {one.session_id: (one.status, one.reason) for one in self.told}

    def of(self, session: Session) -> Session:
        """The new run of a session."""
        found = Session(self.deployment.log, session.keys, session.story)
        found.run = session.keys.run(self.run)
        return found

    async def _begin(self) -> None:
        self.begun += 1

    def _note(self, pace: Pace) -> None:
        self.paces.append((pace.over, pace.processed_s))


async def found(sources: Sequence[Source], selection: Selection = ALL) -> list[Replayable]:
    """What the sources have of it."""
    return await find_all(sources, selection)
