"""One clip on its way through a worker's recogniser."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from eventlog.work.shared_recognition import Reference
from processor.active_runs import ActiveRun
from processor.recognisers import Clip, RecogniserError, Recognition

_FIXED_COST_S = 2.0
"""What a clip costs beside its length, as seconds of speech. Measured with tiny.en: a clip of 1 s takes about as long
as 3 s of a clip of 15 s."""


class JobKind(enum.Enum):
    """What waits for a job, in the order of their turns; the last three take turns among themselves."""

    FINAL = enum.auto()
    """A speaker, for an utterance that has ended."""
    REQUESTED = enum.auto()
    """A request, for the text of an open utterance."""
    EARLY = enum.auto()
    """A speaker, if the pause that began ends the utterance."""
    PARTIAL = enum.auto()
    """A speaker, for an utterance that continues."""
    BEHIND = enum.auto()
    """A session with a backlog."""
    RECORDED = enum.auto()
    """A recording."""


@dataclass(slots=True, eq=False)
class RecordedUtterance:
    """An utterance of a recording: no speaker waits for its caption, and other workers may recognise it.

    Attributes:
        run: Its run, or None if another worker holds that.
        reference: Where its samples are.
        may_be_offered: Whether other workers may get it: not if it is theirs, nor if they failed to recognise it.
    """

    run: ActiveRun | None
    reference: Reference
    may_be_offered: bool = True


@dataclass(slots=True, eq=False)
class Job:
    """One clip on its way through a recogniser.

    Attributes:
        clip: What to recognise.
        on_result: Called on the event loop with the recognition, or with an error that no retry can fix.
        is_cancelled: Says whether its result is of no use any more; called right before the work is done.
        tenant: Whose it is: tenants take turns, and so do the sessions of each.
        session: The session, named within the tenant.
        is_requested: A partial that a client's request waits for: before all others, and reported even if it fails.
        is_early: A final recognised before its utterance has ended; its failure is reported and not retried.
        is_behind: Its session is behind what its client has sent: worked off beside live speech, not before it.
        recorded: Its place in a recording, if it is of one.
        failures: How many tries failed.
        is_running: Whether it is in a call now.
        is_settled: Whether `on_result` was called.
        seconds: Its share of its last call's time.
    """

    clip: Clip
    on_result: Callable[[Recognition | RecogniserError], None]
    is_cancelled: Callable[[], bool]
    tenant: str = ""
    session: str = ""
    is_requested: bool = False
    is_early: bool = False
    is_behind: bool = False
    recorded: RecordedUtterance | None = None
    failures: int = 0
    is_running: bool = False
    is_settled: bool = False
    seconds: float = 0.0

    @property
    def kind(self) -> JobKind:
        """What waits for it."""
        if self.is_requested:
            return JobKind.REQUESTED
        if self.recorded:
            return JobKind.RECORDED
        if self.is_early:
            return JobKind.EARLY
        if self.clip.partial:
            return JobKind.PARTIAL
        return JobKind.BEHIND if self.is_behind else JobKind.FINAL

    @property
    def is_obsolete(self) -> bool:
        """Whether doing it now would be in vain."""
        return self.is_settled or self.is_cancelled()

    @property
    def audio_s(self) -> float:
        """The clip's length."""
        return len(self.clip.pcm) / 2 / self.clip.sample_rate_hz

    @property
    def cost_s(self) -> float:
        """What a turn with it costs, in seconds of speech."""
        return _FIXED_COST_S + self.audio_s

    def settle(self, result: Recognition | RecogniserError) -> None:
        """Report the outcome; the first one counts, since a shared utterance may be recognised twice."""
        if not self.is_settled:
            self.is_settled = True
            self.on_result(result)
