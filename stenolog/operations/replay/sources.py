"""Sources of sessions whose audio can be processed again, and the selection of some of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from eventlog.events import SessionStarted
from eventlog.log import Code


class Selection(NamedTuple):
    """The named sessions, or those within every given bound."""

    session_ids: Sequence[str] = ()
    tenant_id: str | None = None
    since_ms: int | None = None
    """Started then or later, Unix ms."""
    until_ms: int | None = None
    """Started before that, Unix ms."""

    def matches(self, start: SessionStarted) -> bool:
        """Whether the session with this start is one of them."""
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
    """The session's own start; of a container's, with the channels that were found in it."""
    total_samples: int
    """Length of all its audio, per channel."""
    source: str
    """`Source.name`, which the run's checkpoint keeps."""
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
        """Yield the selected sessions that it knows, in any order, each once; OK those of which it has all the audio.

        Raises:
            LogUnavailableError: if it can't be reached; call again.
        """
        ...


async def find_all(sources: Sequence[Source], selection: Selection) -> list[Replayable]:
    """The selected sessions, the oldest first, each from the first source that has all its audio.

    Incomplete ones are among them, with the code of the first source that knows them.

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
