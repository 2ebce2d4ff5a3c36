"""The log's side of a rebuild: a shadow copy of a run's read model, which takes its place in one script.

A copy holds exactly the outcome of the facts up to its position, so several rebuilds of one run do no harm: each write
and the swap compare the position. An abandoned copy expires soon; an erased session's copies go with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from typing import NamedTuple

from eventlog.keys import LIVE_RUN, RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.positions import Position
from eventlog.projection.dead_letters import read_dead_letters
from eventlog.projection.operations import Op
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

PARTS = {"lists": ("list", "document"), "feeds": ("feed",), "sessions": ("view",), "status": ("status",)}
"""The keys of each projection's read model of a run, named as in `RunKeys`."""

COPY_TTL_S = 300
"""The copies of a killed rebuild expire five minutes later; a living one takes seconds for the longest run."""

SCANNED_AT_ONCE = 256
"""Members of a sorted set that one call reads."""


class RebuiltKeys(RunKeys):
    """A run's keys, except for its read model, whose keys are those of the copy."""

    def __init__(self, run: RunKeys) -> None:
        """The copy of the read model of `run`."""
        super().__init__(run.session, run.run)
        self.of = run

    @property
    def list(self) -> str:
        """The List's copy."""
        return self.rebuilt("list")

    @property
    def document(self) -> str:
        """The document's copy."""
        return self.rebuilt("document")

    @property
    def view(self) -> str:
        """The view's copy."""
        return self.rebuilt("view")

    @property
    def status(self) -> str:
        """The status messages' copy."""
        return self.rebuilt("status")

    @cached_property
    def feed(self) -> str:
        """The feed's copy."""
        return self.rebuilt("feed")

    def projected(self, projection: str) -> str:
        """String: up to where the copy has been made."""
        return self.rebuilt(f"position-{projection}")

    def copy(self, part: str) -> str:
        """The key of one of `PARTS`."""
        key: str = getattr(self, part)
        return key

    def before(self, part: str) -> str:
        """Where the swap keeps the old part, to be compared."""
        return self.rebuilt(f"before-{part}")


def rebuild_keys(run: RunKeys) -> list[str]:
    """Every key that a rebuild of this run may make."""
    keys = RebuiltKeys(run)
    return [
        key for projection, parts in PARTS.items()
        for key in (keys.projected(projection), *map(keys.copy, parts), *map(keys.before, parts))
    ]  # fmt: skip


class CopiedPart(NamedTuple):
    """A part of a copy."""

    name: str
    exists: bool
    due_ms: int = 0
    """When it is to expire, Unix ms; 0 as the old one does, or as the facts do."""


class ListingEntry(NamedTuple):
    """The place of a run in a listing."""

    listing: str
    score: float | None
    """None where the run is not listed."""
    expires: bool
    member: str


class Swap(NamedTuple):
    """A copy that is to take the place of a run's read model, with all that changes at that moment."""

    keys: RebuiltKeys
    position: Position
    """Of the last fact in it."""
    parts: Sequence[CopiedPart]
    listings: Sequence[ListingEntry]
    messages: Sequence[Op]
    """For listeners, if the old one was behind."""
    dead_letters: Sequence[Op]
    """Of facts that couldn't be applied."""
    dead_letter_ids: Sequence[str]
    """Entry ids of the old dead letters, which it settles."""


class Swapped(NamedTuple):
    """The answer: OK, STALE, LOST, GONE, MISPLACED as ``swap_rebuilt.lua`` says, or UNKNOWN if the call failed."""

    code: Code
    position: Position
    """Of the last fact in the old one."""
    moved: int = 0
    """Listings in which the run's place differs from before."""


class Rebuilds:
    """Copies of one projection's read models."""

    def __init__(self, server: Server, projection: str, *, session_ttl_s: int) -> None:
        """Rebuild `projection`; where no TTL is known, keys get `session_ttl_s`."""
        self._server = server
        self._projection = projection
        self._ttl_s = session_ttl_s

    async def begin(self, runs: Sequence[RebuiltKeys]) -> list[Code]:
        """Drop old copies and begin again: OK, GONE, or UNKNOWN for runs that couldn't be reached.

        Raises:
            LogUnavailableError: if nothing can be reached; LogFullError if Redis has no memory for copies.
        """
        parts = PARTS[self._projection]
        calls = [
            Call(
                script("begin_rebuilding"),
                [run.transcript, run.projected(self._projection), *map(run.copy, parts), *map(run.before, parts)],
                [COPY_TTL_S],
            )
            for run in runs
        ]  # fmt: skip
        answers = await self._server.run_many(calls)
        return [Code.UNKNOWN if isinstance(answer, LogUnavailableError) else Code(answer) for answer in answers]

    async def swap(self, swaps: Sequence[Swap], *, keep: bool, mend: bool) -> list[Swapped]:
        """Put each copy in its place, or return the code of the reason against it.

        Args:
            swaps: What to swap.
            keep: Keep the old read model for a while under `RebuiltKeys.before`.
            mend: Drop listings of a foreign type; only where all runs of a partition are rebuilt.

        Raises:
            LogUnavailableError: if nothing can be reached; a swap that was made answers LOST the next time.
        """
        answers = await self._server.run_many([self._call(swap, keep=keep, mend=mend) for swap in swaps])
        return [
            Swapped(Code.UNKNOWN, Position(0, 0)) if isinstance(answer, LogUnavailableError)
            else Swapped(Code(answer[0]), Position.parse(answer[1]), answer[2])
            for answer in answers
        ]  # fmt: skip

    async def drop(self, runs: Sequence[RebuiltKeys]) -> None:
        """Delete these copies.

        Raises:
            LogUnavailableError: if none can be reached; they expire.
        """
        parts = PARTS[self._projection]
        await self._server.execute_many([
            ("UNLINK", run.projected(self._projection), *map(run.copy, parts), *map(run.before, parts)) for run in runs
        ])  # fmt: skip

    def _call(self, swap: Swap, *, keep: bool, mend: bool) -> Call:
        run = swap.keys
        keys = [
            run.of.projected(self._projection), run.transcript, run.projected(self._projection),
            run.partition.dead_letters(self._projection), run.partition.feed_channel, run.session.promoted,
        ]  # fmt: skip
        arguments: list[Argument] = [
            str(swap.position), self._ttl_s, COPY_TTL_S if keep else 0, int(mend), run.run,
            len(swap.parts), len(swap.listings),
        ]  # fmt: skip
        for part in swap.parts:
            keys += (getattr(run.of, part.name), _other(run.of, part.name), run.copy(part.name), run.before(part.name))
            arguments += (int(part.exists), part.due_ms)
        for entry in swap.listings:
            keys.append(entry.listing)
            arguments += ("" if entry.score is None else entry.score, int(entry.expires), entry.member)
        arguments.append(len(swap.messages))
        for op in swap.messages:
            arguments += op.arguments if op.command == "PUBLISH" else ("", *op.arguments)
        arguments += (len(swap.dead_letter_ids), *swap.dead_letter_ids)
        for dead_letter in swap.dead_letters:
            arguments += (len(dead_letter.arguments), *dead_letter.arguments)
        return Call(script("swap_rebuilt"), keys, arguments)


def _other(run: RunKeys, part: str) -> str:
    """The second key of a part while a replay is promoted; the first again where it has no other."""
    session = run.session
    if part not in ("list", "document", "view"):
        own: str = getattr(run, part)
        return own
    saved = {"list": session.live_list, "document": session.live_document, "view": session.live_view}
    promoted = {"list": session.list, "document": session.document, "view": session.view}
    return (saved if run.run == LIVE_RUN else promoted)[part]


async def count_runs(server: Server) -> int:
    """About how many runs have facts.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    return sum(await server.execute_all([("ZCARD", partition.index) for partition in server.keys.partitions]))


async def scan_runs(server: Server) -> AsyncIterator[RunKeys]:
    """Every run that has facts from the beginning of this walk to its end, each once.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    for partition in server.keys.partitions:
        async for run in _scanned(server, partition.index):
            yield run


async def find_runs(server: Server, session_ids: Sequence[str]) -> AsyncIterator[RunKeys]:
    """The live run of each session, whether it exists or not, and all its replays.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    for session_id in dict.fromkeys(session_ids):
        live = server.keys.of(session_id).run()
        yield live
        async for run in _scanned(server, live.partition.index):
            if run.session_id == session_id and run.run != live.run:
                yield run


async def read_dead_letter_ids(server: Server, projection: str) -> dict[str, list[str]]:
    """Entry ids of a projection's dead letters by run.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    found: dict[str, list[str]] = {}
    async for page in read_dead_letters(server, [projection]):
        for dead_letter in page:
            found.setdefault(dead_letter.keys.member, []).append(dead_letter.entry_id)
    return found


async def drop_orphans(server: Server) -> int:
    """Take out of the listings of open and ended runs those that have no view; returns how many.

    One script makes a view and its run's places, so a run without a view has no business there. Each read of a
    tenant's list prunes that.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    dropped = 0
    for partition in server.keys.partitions:
        for listing in (partition.open_runs, partition.ended_runs):
            runs = [run async for run in _scanned(server, listing)]
            views = await server.execute_many([("EXISTS", run.view) for run in runs])
            gone = [run.member for run, exists in zip(runs, views, strict=True) if exists == 0]
            if gone:
                dropped += await server.execute("ZREM", listing, *gone)
    return dropped


async def _scanned(server: Server, members: str) -> AsyncIterator[RunKeys]:
    """The runs that a sorted set names, each once."""
    seen: set[bytes] = set()
    cursor: Argument = 0
    while True:
        cursor, found = await server.execute("ZSCAN", members, cursor, "COUNT", SCANNED_AT_ONCE)
        for member, _ in found:
            if member not in seen:
                seen.add(member)
                yield server.keys.of_run(member.decode(errors="replace"))
        if int(cursor) == 0:
            return
