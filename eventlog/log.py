"""The log contract: the promises of every backend, in six methods.

Nothing here names Redis. `eventlog.redis.redis_log` implements it; `tests/integration/eventlog/test_conformance.py`
holds every backend to it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from eventlog.events import Fact, OptionsChanged, SessionStarted
from eventlog.keys import LIVE_QUEUE, QueueKeys, RunKeys, SessionKeys
from eventlog.positions import Position


class Code(enum.IntEnum):
    """A script's return code; the Lua side uses the same numbers."""

    OK = 0
    GONE = 1
    """No such session (never opened, expired or erased)."""
    SUPERSEDED = 2
    """A newer connection has resumed the session."""
    MISPLACED = 3
    """The log's head isn't where the caller believes; the answer has the true one."""
    SEALED = 4
    """The stream has its end; nothing comes after it."""
    EXISTS = 5
    """The session exists already."""
    FORBIDDEN = 6
    """The resume token is not this session's."""
    LOST = 7
    """The claim is another worker's now, or no worker's."""
    STALE = 8
    """The expected commit number is not the stored one."""
    NOT_IDLE = 9
    """Redis's clock says that the session isn't idle."""
    FULL = 10
    """The session limit is reached."""
    UNKNOWN = 11
    """No script returns this: the call failed while others of the same round went through. Call again."""
    TENANT_FULL = 12
    """The tenant's own session limit is reached."""
    NOT_ENDED = 13
    """The session hasn't ended."""
    TRIMMED = 14
    """The beginning of its audio was freed."""
    BROKEN = 15
    """No script returns this: the script failed by an error of this session's own keys, and will next time."""


class Append(NamedTuple):
    """One entry for an audio stream: a chunk of PCM, or a control event."""

    keys: SessionKeys
    epoch: int
    """Of the connection that appends."""
    after: Position
    """The head that the caller believes in; the guard compares it."""
    position: Position
    """The entry's id: its end in the audio."""
    payload: bytes
    is_audio: bool


class Appended(NamedTuple):
    """The guard's answer to one `Append`; only `Code.OK` means that it is in the log."""

    code: Code
    epoch: int = 0
    head: Position = Position(0, 0)


class Opened(NamedTuple):
    """The answer to `open` and `resume`."""

    code: Code
    epoch: int = 0
    head: Position = Position(0, 0)
    start: SessionStarted | None = None


class Claim(NamedTuple):
    """The right to process one run. Its token is (entry, consumer, deliveries): A → B → A is not the same claim."""

    keys: RunKeys
    entry_id: str
    consumer: str
    deliveries: int
    queue: str = LIVE_QUEUE
    """Name of the queue that offered it, see `eventlog.keys.QueueKeys`."""

    @property
    def queue_keys(self) -> QueueKeys:
        """The keys of that queue."""
        return self.keys.partition.queue(self.queue)


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is processed; moved only by a commit."""

    cursor: Position = Position(0, 0)
    """The last audio entry that was consumed, with its sequence part."""
    boundaries: tuple[int, ...] = ()
    """Each channel's last boundary in samples; reading restarts at the earliest."""
    utterance: int = 0
    """The next utterance's number."""
    serial: int = 0
    """How many commits the run has had, which a commit states as expected."""
    options: OptionsChanged | None = None
    """What the client has changed of its start's options, up to the earliest boundary: those entries may be trimmed."""
    suspicion: int = 0
    """Its suspicion count: takeovers after a worker's death since the last commit."""
    done: bool = False


class Commit(NamedTuple):
    """Facts and the checkpoint they lead to, written together or not at all."""

    claim: Claim
    checkpoint: Checkpoint
    """The new one; its `serial` is the expected one + 1."""
    facts: Sequence[tuple[Position, Fact]]
    trim_before: Position | None = None
    """Audio entries below this may be freed."""
    ends: bool = False
    """The run is over: the claim's entry goes with this commit."""
    keeps_unarchived: bool = False
    """Only audio that is archived as well may be freed."""


class Committed(NamedTuple):
    """The answer to a commit. `Code.OK` also when an earlier try of the same commit had already been written.

    `Code.UNKNOWN` when it alone got no answer: make the very same commit again, for another one under its serial would
    count as done.
    """

    code: Code
    holder: str = ""
    serial: int = 0


class AudioEntry(NamedTuple):
    """One entry that was read: `pcm` for a chunk, `event` bytes for a control event."""

    position: Position
    pcm: bytes | None
    event: bytes | None
    at_ms: int


class LogUnavailableError(Exception):
    """The log can't be reached or can't take writes now; the call's fate is unknown. Try again."""


class LogFullError(LogUnavailableError):
    """The log's memory is full: nothing was written; append no more until it drains."""


class EventLog(Protocol):
    """Audio in, facts out: one ordered stream per session, one per run.

    Every method may raise `LogUnavailableError`; then the write may or may not have happened, and the same
    call may be made again: guards make it harmless.
    """

    async def open(self, keys: SessionKeys, start: SessionStarted, token_hash: str) -> Opened:
        """Create a session with its first audio event, its first fact, its claimable entry, all at once.

        Idempotence: a second call answers `EXISTS` and changes nothing.
        """
        ...

    async def resume(self, keys: SessionKeys, token_hash: str) -> Opened:
        """Raise the epoch, so that every older connection is superseded, and return the log's head.

        Returns GONE, FORBIDDEN or SEALED and changes nothing if the session can't continue.
        """
        ...

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Write entries of many sessions; each is judged alone, in the order given.

        Order: per session, as given; a refused entry refuses those after it. Idempotence: an entry that is in the log
        already answers MISPLACED with a head at or past its position. Failure: any prefix of a session may be written.
        A session whose keys are broken, by a value of another type say, answers BROKEN, and the others continue.
        """
        ...

    async def read(
        self, cursors: Mapping[SessionKeys, Position], *, max_bytes_each: int
    ) -> dict[SessionKeys, list[AudioEntry]]:
        """Return entries after each cursor, in order, about `max_bytes_each` per session; sessions without are absent.

        Never blocks, redelivers every entry after the cursor, and skips trimmed ones.
        """
        ...

    async def commit(self, commits: Sequence[Commit]) -> list[Committed]:
        """Write each commit if its claim is still held and its serial is the expected one, else nothing of it.

        Order: as given. Idempotence: made again after a lost answer it answers OK. Failure: each is whole or absent.
        """
        ...

    async def facts(self, keys: RunKeys, after: Position, *, limit: int = 1000) -> list[tuple[Position, bytes]]:
        """Return encoded facts after a position, in order. Never blocks."""
        ...
