"""The runs that one worker holds, and what it needs to work on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eventlog.events import CONTAINER
from eventlog.keys import LIVE_RUN
from processor.active_run import ActiveRun

if TYPE_CHECKING:
    from eventlog.log import Claim


class ActiveRuns:
    """All runs of one worker, by ``<session> <run>``, and the event that says that one may be committed."""

    def __init__(self, capacity: int) -> None:
        """Hold `capacity` runs at most."""
        self.capacity = capacity
        self.ready: dict[str, ActiveRun] = {}
        """Runs whose first decision is ready to be committed, in the order in which they became so."""
        self.wake_committer = asyncio.Event()
        self.uploads: dict[str, ActiveRun] = {}
        """Those among the runs whose audio must be decoded first; a replay finds it decoded."""
        self._runs: dict[str, ActiveRun] = {}

    def __len__(self) -> int:
        """How many runs are held."""
        return len(self._runs)

    def __iter__(self) -> Iterator[ActiveRun]:
        """Every run held now; the set may change meanwhile."""
        return iter(list(self._runs.values()))

    def __contains__(self, member: str) -> bool:
        """Whether the run named ``<session> <run>`` is held."""
        return member in self._runs

    @property
    def room(self) -> int:
        """How many more runs may be claimed."""
        return max(0, self.capacity - len(self._runs))

    @property
    def has_live(self) -> bool:
        """Whether there is a session among them whose speaker waits for captions."""
        return any(not run.is_recorded for run in self._runs.values())

    @property
    def claims(self) -> list[Claim]:
        """The claims of all runs held."""
        return [run.claim for run in self._runs.values()]

    def add(self, run: ActiveRun) -> None:
        """Hold a run."""
        keys = run.claim.keys
        self._runs[keys.member] = run
        if run.start.encoding == CONTAINER and keys.run == LIVE_RUN:
            self.uploads[keys.member] = run

    def drop(self, run: ActiveRun) -> None:
        """Let go of a run: it is lost, handed over or over. What is under way for it comes to nothing."""
        run.held = False
        member = run.claim.keys.member
        if self._runs.get(member) is run:
            del self._runs[member]
            self.uploads.pop(member, None)
        if self.ready.get(member) is run:
            del self.ready[member]

    def mark_ready(self, run: ActiveRun) -> None:
        """Hand a run to the committer if its first decision is ready."""
        if run.held and not run.committing and run.pending and run.pending[0].is_ready:
            self.ready[run.claim.keys.member] = run
            self.wake_committer.set()
