"""Reads the facts that events are made of besides the pulled ones: a run's first one, its finals, and single ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from eventlog.codec import UndecodableEventError, decode_fact
from eventlog.events import Fact, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import FACTS_PER_PULL, RunFacts
from eventlog.redis.server import Server
from projections.integration_events import Event, Kind, make_event

MOST_CACHED = 4096
"""Some 4 MB: several times as many sessions as one deployment has open by default."""


class UnreadableFactError(ValueError):
    """A fact that is needed is of no version that this build knows."""


class OpenedCache:
    """The first facts of runs, which all their events quote; the last ones stay cached."""

    def __init__(self, server: Server) -> None:
        """Read from `server` those that are not cached."""
        self._server = server
        self._cached: OrderedDict[str, SessionOpened | None] = OrderedDict()

    async def read(self, pulled: Sequence[RunFacts], others: Sequence[RunKeys] = ()) -> dict[str, SessionOpened | None]:
        """How these runs were opened, by name; None where that can't be read.

        Raises:
            LogUnavailableError: if some can't be reached.
        """
        found: dict[str, SessionOpened | None] = {}
        for keys, after, facts in ((one.keys, one.after, one.facts) for one in pulled):
            if after == START:
                first = facts[0][1] if facts else None
                found[keys.member] = first if isinstance(first, SessionOpened) else None
        unread: list[RunKeys] = []
        for keys in (*(one.keys for one in pulled), *others):
            if keys.member not in found and keys.member in self._cached:
                found[keys.member] = self._cached[keys.member]
            elif keys.member not in found:
                unread.append(keys)
        if unread:
            found |= await read_opened(self._server, unread)
        for name, opened in found.items():
            self._cached[name] = opened
            self._cached.move_to_end(name)
        while len(self._cached) > MOST_CACHED:
            self._cached.popitem(last=False)
        return found


async def rebuild_event(server: Server, dead_letter: DeadLetter) -> Event | None:
    """Make a dead letter's event from the facts; None if it is of a fact as such, or its facts are gone or unreadable.

    Raises:
        LogUnavailableError: if they can't be reached.
    """
    [fact] = await read_facts(server, [(dead_letter.keys, dead_letter.position)])
    opened = (await read_opened(server, [dead_letter.keys]))[dead_letter.keys.member]
    if fact is None or opened is None or dead_letter.kind not in list(Kind):
        return None
    kind = Kind(dead_letter.kind)
    try:
        finals = await read_finals(server, dead_letter.keys) if kind.needs_finals else []
        return make_event(kind, dead_letter.keys, opened, (dead_letter.position, fact), finals)
    except ValueError:
        return None


async def read_facts(server: Server, wanted: Sequence[tuple[RunKeys, Position | None]]) -> list[Fact | None]:
    """Read the fact at each position, or the run's first one; None where it is missing or unreadable.

    Raises:
        LogUnavailableError: if some can't be reached.
    """
    answers = await server.execute_many([
        ("XRANGE", keys.transcript, str(at or "-"), str(at or "+"), "COUNT", 1) for keys, at in wanted
    ])  # fmt: skip
    return [_decoded(answer) for answer in answers]


async def read_opened(server: Server, runs: Iterable[RunKeys]) -> dict[str, SessionOpened | None]:
    """Read how each run was opened, by its name; None where that can't be read.

    Raises:
        LogUnavailableError: if some can't be reached.
    """
    requested = list(runs)
    found = await read_facts(server, [(keys, None) for keys in requested])
    return {
        keys.member: fact if isinstance(fact, SessionOpened) else None
        for keys, fact in zip(requested, found, strict=True)
    }


async def read_finals(server: Server, keys: RunKeys) -> list[UtteranceFinal]:
    """Read all finals of a run, page by page.

    Raises:
        UnreadableFactError: if a fact among them can't be read: its text would be missing.
        LogUnavailableError: if it can't be reached.
    """
    finals: list[UtteranceFinal] = []
    after = "-"
    while True:
        [page] = await server.execute_many([("XRANGE", keys.transcript, after, "+", "COUNT", FACTS_PER_PULL)])
        if isinstance(page, LogUnavailableError):
            raise page
        if isinstance(page, Exception):
            raise UnreadableFactError("the run's facts can't be read")
        for _, fields in page:
            try:
                fact = decode_fact(fields[1])
            except UndecodableEventError:
                raise UnreadableFactError("a fact of the run can't be read") from None
            if isinstance(fact, UtteranceFinal):
                finals.append(fact)
        if len(page) < FACTS_PER_PULL:
            return finals
        after = f"({page[-1][0].decode()}"


def _decoded(answer: object) -> Fact | None:
    if isinstance(answer, LogUnavailableError):
        raise answer
    match answer:
        case [[_, [_, bytes(data), *_]]]:
            try:
                return decode_fact(data)
            except UndecodableEventError:
                return None
    return None
