"""How runs were opened, which every event of theirs tells of; the last ones are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from eventlog.events import SessionOpened
from eventlog.keys import RunKeys
from eventlog.positions import START
from eventlog.projection.projection_log import RunFacts
from eventlog.redis.server import Server
from projections.forwarding.fact_reader import read_opened

MOST_KNOWN = 4096
"""Some 4 MB: several times as many sessions as one deployment has open by default."""


class Openings:
    """A cache of runs' first facts."""

    def __init__(self, server: Server) -> None:
        """Read what isn't known from `server`."""
        self._server = server
        self._known: OrderedDict[str, SessionOpened | None] = OrderedDict()

    async def of(self, pulled: Sequence[RunFacts], others: Sequence[RunKeys] = ()) -> dict[str, SessionOpened | None]:
        """How these runs were opened, by name; None where that can't be read.

        Raises:
            LogUnavailableError: if some can't be reached.
        """
        found = {one.keys.member: _first(one) for one in pulled if one.after == START}
        unread: list[RunKeys] = []
        for keys in (*(one.keys for one in pulled), *others):
            if keys.member in found:
                continue
            if keys.member in self._known:
                found[keys.member] = self._known[keys.member]
            else:
                unread.append(keys)
        if unread:
            found |= await read_opened(self._server, unread)
        self._remember(found)
        return found

    def _remember(self, found: dict[str, SessionOpened | None]) -> None:
        for name, opened in found.items():
            self._known[name] = opened
            self._known.move_to_end(name)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def _first(pulled: RunFacts) -> SessionOpened | None:
    facts = pulled.facts
    return facts[0][1] if facts and isinstance(facts[0][1], SessionOpened) else None
