"""Reads the facts that events are made of besides the pulled ones: a run's first one, its finals, and single ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eventlog.codec import UndecodableEventError, decode_fact
from eventlog.events import Fact, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import Position
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import FACTS_PER_PULL
from eventlog.redis.server import Server
from projections.integration_events import Event, Kind, make_event


class UnreadableFactError(ValueError):
    """A fact that is needed is of no version that this build knows."""


async def rebuild_event(server: Server, dead_letter: DeadLetter, *, with_words: bool) -> Event | None:
    """Make a dead letter's event from the facts; None if it is of a fact as such, or its facts are gone or unreadable.

    `with_words` as the deployment's sinks have it.

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
        return make_event(kind, dead_letter.keys, opened, (dead_letter.position, fact), finals, with_words=with_words)
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
    asked = list(runs)
    found = await read_facts(server, [(keys, None) for keys in asked])
    return {
        keys.member: fact if isinstance(fact, SessionOpened) else None
        for keys, fact in zip(asked, found, strict=True)
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
