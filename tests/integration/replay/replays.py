"""Sessions of any tenant and time, and a replay that records everything it reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from eventlog.events import SessionStarted
from stenolog.operations.replay.progress import Pace
from stenolog.operations.replay.replay import Outcome, Replay, ReplayPlan, Retry
from stenolog.operations.replay.run_overrides import RunOverrides
from stenolog.operations.replay.sources import Replayable, Selection, Source, find_all
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story

QUEUE = "mock"
TTL_S = 1_000
ALL = Selection()


@dataclass
class TenantStory(Story):
    """A story of some tenant, begun at some time."""

    tenant_id: str = ""
    started_ms: int = 0

    @property
    def start(self) -> SessionStarted:
        """The session's first event."""
        return msgspec.structs.replace(super().start, tenant_id=self.tenant_id, started_ms=self.started_ms)


@dataclass
class RecordedReplay:
    """A replay in a deployment, and all its reports."""

    deployment: Deployment
    run: str = "again"
    queue: str = QUEUE
    overrides: RunOverrides = field(default_factory=lambda: RunOverrides(engine=QUEUE))
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paces: list[tuple[int, float]] = field(default_factory=list)
    started: int = 0

    async def over(self, sessions: Sequence[Replayable], *, wait: bool = True) -> dict[str, tuple[str, str]]:
        """Replay them; how each ended and why, by its id."""
        self.outcomes.clear()
        replay = Replay(
            self.deployment.server, ReplayPlan(self.run, self.overrides, self.queue), session_ttl_s=TTL_S,
            retry=Retry(self.notes.append), on_outcome=self.outcomes.append, on_pace=self._note,
        )  # fmt: skip
        await replay.run(sessions, begin=self._begin, wait=wait)
        return {one.session_id: (one.status, one.reason) for one in self.outcomes}

    def of(self, session: Session) -> Session:
        """The new run of a session."""
        found = Session(self.deployment.log, session.keys, session.story)
        found.run = session.keys.run(self.run)
        return found

    async def _begin(self) -> None:
        self.started += 1

    def _note(self, pace: Pace) -> None:
        self.paces.append((pace.over, pace.processed_s))


async def found(sources: Sequence[Source], selection: Selection = ALL) -> list[Replayable]:
    """The sessions that the sources have of a selection."""
    return await find_all(sources, selection)
