"""A dead letter's event made anew from the facts, for whoever wants to see it."""

from __future__ import annotations

from eventlog.projection.dead_letters import DeadLetter
from eventlog.redis.server import Server
from projections.forwarding.fact_reader import read_facts, read_finals, read_opened
from projections.integration_events import Event, Kind, make_event


async def rebuilt(server: Server, letter: DeadLetter) -> Event | None:
    """The event that a letter is about; None if it is about a fact as such, or its facts are gone or can't be read.

    Raises:
        LogUnavailableError: if they can't be reached.
    """
    [fact] = await read_facts(server, [(letter.keys, letter.position)])
    opened = (await read_opened(server, [letter.keys]))[letter.keys.member]
    if fact is None or opened is None or letter.kind not in list(Kind):
        return None
    kind = Kind(letter.kind)
    try:
        finals = await read_finals(server, letter.keys) if kind.needs_finals else []
        return make_event(kind, letter.keys, opened, (letter.position, fact), finals)
    except ValueError:
        return None
