"""Where sessions are found whose audio can be processed again, and which of them are wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from eventlog.events import SessionStarted
from eventlog.log import Code


class Selection(NamedTuple):
    """Which sessions are wanted: those named, or those that meet every bound that is given."""

    session_ids: Sequence[str] = ()
    tenant_id: str | None = None
    since_ms: int | None = None
    """Started then or later, Unix ms."""
    until_ms: int | None = None
    """Started before that, Unix ms."""

    def wants(self, start: SessionStarted) -> bool:
        """Whether the session that began so is one of them."""
        if self.session_ids:
            return start.session_id in self.session_ids
        return (
            self.tenant_id in {None, start.tenant_id}
            and (self.since_ms is None or start.started_ms >= self.since_ms)
            and (self.until_ms is None or start.started_ms < self.until_ms)
        )


class Replayable(NamedTuple):
    """A session that a source knows."""

    session_id: str
    tenant_id: str
    started_ms: int
    start: SessionStarted
    """What the session was begun with; of a container's, with the channels that were found in it."""
    total_samples: int
    """How much audio there is in all, per channel."""
    source: str
    """`Source.name`: what the run's checkpoint will say of where the audio is."""
    code: Code = Code.OK
    """NOT_ENDED or TRIMMED if it can't be replayed from this source."""

    @property
    def audio_s(self) -> float:
        """Its length in seconds."""
        return self.total_samples / self.start.sample_rate_hz


class Source(Protocol):
    """A place that holds sessions' audio."""

    name: str
    """`eventlog.work.replays.LOG`, `ARCHIVE`, …"""

    def find(self, selection: Selection) -> AsyncIterator[Replayable]:
        """The sessions wanted that it knows, in any order, each once; those of which it has all the audio are OK.

        Raises:
            LogUnavailableError: if it can't be reached; ask anew.
        """
        ...


async def find_all(sources: Sequence[Source], selection: Selection) -> list[Replayable]:
    """The sessions wanted, the oldest first, each from the first source that has all its audio.

    Those that none has stand among them, with the code of the first source that knows them.

    Raises:
        LogUnavailableError: if a source can't be reached.
    """
    found: dict[str, Replayable] = {}
    for source in sources:
        async for one in source.find(selection):
            known = found.get(one.session_id)
            if known is None or (known.code != Code.OK and one.code == Code.OK):
                found[one.session_id] = one
    return sorted(found.values(), key=lambda one: (one.started_ms, one.session_id))
