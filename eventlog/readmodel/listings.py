"""The sessions in pages, and numbers over all of them; the cost of neither grows with ended sessions."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.readmodel.views import SessionView, read_views, sum_views
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

OPEN_RANK = 10**14
"""Added to an open run's start (Unix ms) to rank it before all that have ended, which are ranked by their end.

Above any time for three thousand years; sums of the two are exact in the doubles that sorted sets hold.
"""

OPEN_STATES = ("CREATED", "ACTIVE", "CLOSING")
STATES = (*OPEN_STATES, "CLOSED")

RUNS_PER_LOOK = 100
"""Views read in one call: half a millisecond of Redis's time and a few of the caller's loop, so that no frame waits."""

RANKS_PER_LOOK = 1000
"""Members of the listing read in one round trip: some 100 kB."""

SPARE_PER_PARTITION = 4
"""Asked of each partition beyond its even share, since the share is uneven: a second question is rarely needed then."""

OLDEST_PER_SWEEP = 100
"""Per partition: the oldest are those that expire; a sweep a few seconds later takes the next hundred."""

_MS = 1000


class Cursor(NamedTuple):
    """The place in the listing after which the next page begins."""

    rank: int
    member: str

    def encoded(self) -> str:
        """As clients pass it on."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()

    @classmethod
    def decoded(cls, text: str) -> Cursor:
        """Parse the text that `encoded` gave.

        Raises:
            ValueError: if it is no cursor.
        """
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return msgspec.json.decode(data, type=cls)
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError("no cursor of a listing") from error


class Page(NamedTuple):
    """A part of the listing."""

    views: list[SessionView]
    next: Cursor | None
    """None at the end."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers over sessions; of ended ones those whose keys still live."""

    open: int = 0
    states: dict[str, int] = {}
    """How many are in each state, lower case."""
    ended: int = 0
    audio_seconds: float = 0.0
    """Of the open ones, as all that follows."""
    finals: int = 0
    lag_seconds: float = 0.0
    """Audio that is appended and in no commit yet, open utterances included, in all."""
    oldest_lag_seconds: float = 0.0
    """The same of the session that has most."""


class _Source(NamedTuple):
    """A sorted set of each partition, and how its scores become ranks."""

    key_of: Callable[[PartitionKeys], str]
    added: int = 0


class _Ranked(NamedTuple):
    rank: int
    member: str
    key: str


async def list_sessions(
    server: Server,
    *,
    state: str | None = None,
    tenant_id: str | None = None,
    limit: int = 100,
    after: Cursor | None = None,
) -> Page:
    """Runs of a tenant, or of all: open ones first, each kind the latest first; those in `state` only, if given.

    A session that ends while a client pages may be on two pages. A page costs as much as `limit` and the number of
    partitions; for some states also a look at each open session.

    Raises:
        ValueError: if the state is unknown.
        LogUnavailableError: if Redis can't be reached.
    """
    if state not in {None, *STATES}:
        raise ValueError(f"no such state: {state!r}")
    views: dict[str, SessionView] = {}
    last = after
    async for ranked, view in _walk_views(server, _sources(tenant_id, state), after, limit, state):
        if view is not None and state in {None, view.state}:
            views[ranked.member] = view
        last = Cursor(ranked.rank, ranked.member)
        if len(views) == limit:
            return Page(list(views.values()), last)
    return Page(list(views.values()), None)


async def read_metrics(server: Server, tenant_id: str | None = None) -> Metrics:
    """Numbers over a tenant's sessions, or all; costs a look at each open one.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    [source] = _sources(tenant_id, "ACTIVE")
    states = dict.fromkeys(map(str.lower, OPEN_STATES), 0)
    finals = audio_ms = lag_ms = oldest_ms = 0
    place = Cursor(2 * OPEN_RANK, "")
    while ranked := await _read_next(server, source, place, OPEN_RANK, RANKS_PER_LOOK):
        place = Cursor(ranked[-1].rank, ranked[-1].member)
        runs = [server.keys.of_run(one.member) for one in ranked]
        for created, active, closing, *sums in await sum_views(server, runs):
            for name, count in zip(states, (created, active, closing), strict=True):
                states[name] += count
            finals, audio_ms, lag_ms = finals + sums[0], audio_ms + sums[1], lag_ms + sums[2]
            oldest_ms = max(oldest_ms, sums[3])
    [closed] = _sources(tenant_id, "CLOSED")
    ended = sum(answer[0] for answer in await _read_ranks(server, closed, (OPEN_RANK - 1, 0, 0)))
    return Metrics(
        open=sum(states.values()), states={**states, "closed": ended}, ended=ended, finals=finals,
        audio_seconds=audio_ms / _MS, lag_seconds=lag_ms / _MS, oldest_lag_seconds=oldest_ms / _MS,
    )  # fmt: skip


async def sweep_open_runs(server: Server) -> int:
    """Take out of each partition's open runs those of the oldest whose view is gone; returns how many.

    The others' tenants' lists live on as long as the views do: a list would expire over a session that lasts longer
    than a TTL, if its tenant opens no other meanwhile.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    partitions = server.keys.partitions
    oldest = await server.execute_many([("ZRANGE", one.open_runs, 0, OLDEST_PER_SWEEP - 1) for one in partitions])
    members = [member.decode() for found in oldest if not isinstance(found, Exception) for member in found]
    runs = list(map(server.keys.of_run, members))
    views = await server.execute_many([("HMGET", run.view, "state", "tenant_id") for run in runs])
    lives_s = await server.execute_many([("TTL", run.view) for run in runs])
    # A missing view never comes back: one script makes it and its place in the list, once.
    gone = [run for run, view in zip(runs, views, strict=True) if view == [None, None]]
    await server.execute_many([("ZREM", run.partition.open_runs, run.member) for run in gone])
    longest_s: dict[str, int] = {}
    for run, view, life_s in zip(runs, views, lives_s, strict=True):
        if isinstance(view, list) and view[1] is not None and isinstance(life_s, int) and life_s > 0:
            of_tenant = run.partition.tenant_runs(view[1].decode())
            longest_s[of_tenant] = max(life_s, longest_s.get(of_tenant, 0))
    await server.execute_many([("EXPIRE", of_tenant, life_s, "GT") for of_tenant, life_s in longest_s.items()])
    return len(gone)


def _sources(tenant_id: str | None, state: str | None) -> list[_Source]:
    if tenant_id is not None:
        return [_Source(lambda partition: partition.tenant_runs(tenant_id))]
    opened = _Source(lambda partition: partition.open_runs, OPEN_RANK)
    ended = _Source(lambda partition: partition.ended_runs)
    return [opened, ended] if state is None else [ended] if state == "CLOSED" else [opened]


async def _walk_views(
    server: Server, sources: Sequence[_Source], after: Cursor | None, limit: int, state: str | None
) -> AsyncIterator[tuple[_Ranked, SessionView | None]]:
    """Every run after `after`, in order, with its view; only those that can be in `state`."""
    lowest = 0 if state in {None, "CLOSED"} else OPEN_RANK
    highest = OPEN_RANK - 1 if state == "CLOSED" else 2 * OPEN_RANK
    place = after or Cursor(highest, "")
    if place.rank > highest:
        place = Cursor(highest, "")
    wanted = limit if state in {None, "CLOSED"} else RANKS_PER_LOOK
    for source in sources:
        while ranked := await _read_next(server, source, place, lowest, min(wanted, RANKS_PER_LOOK)):
            for first in range(0, len(ranked), RUNS_PER_LOOK):
                async for one in _read_views(server, ranked[first : first + RUNS_PER_LOOK]):
                    yield one
            place = Cursor(ranked[-1].rank, ranked[-1].member)


async def _read_views(server: Server, ranked: Sequence[_Ranked]) -> AsyncIterator[tuple[_Ranked, SessionView | None]]:
    views = await read_views(server, [server.keys.of_run(one.member) for one in ranked])
    # A missing view never comes back: one script makes it and its place in the list, once.
    stale = [one for one, view in zip(ranked, views, strict=True) if view is None]
    await server.execute_many([("ZREM", one.key, one.member) for one in stale])
    for one, view in zip(ranked, views, strict=True):
        yield one, view


async def _read_next(server: Server, source: _Source, place: Cursor, lowest: int, wanted: int) -> list[_Ranked]:
    """Some `wanted` runs that follow `place` over all partitions, in order; none at the end alone."""
    keys = [source.key_of(partition) for partition in server.keys.partitions]
    each = wanted // len(keys) + SPARE_PER_PARTITION
    # As whole numbers: a float's text could lose the last digits.
    high, low = place.rank - source.added, lowest - source.added
    while True:
        found: list[_Ranked] = []
        horizon = -1
        """No partition that has more has any above this rank that isn't `found`."""
        for key, answer in zip(keys, await _read_ranks(server, source, (high, low, each)), strict=True):
            mine = [
                _Ranked(int(float(score)) + source.added, member.decode(), key)
                for member, score in zip(answer[::2], answer[1::2], strict=True)
            ]
            if len(mine) == each:
                horizon = max(horizon, mine[-1].rank)
            found += mine
        # At the very start no member is known yet, and all of that rank follow.
        after = (place.rank, place.member) if place.member else (place.rank + 1, "")
        following = sorted((one for one in found if one[:2] < after), reverse=True)
        certain = [one for one in following if one.rank > horizon]
        if certain or horizon < 0:
            return certain[:wanted]
        each *= 2


async def _read_ranks(server: Server, source: _Source, arguments: Sequence[int]) -> list[list[Any]]:
    """The answer of ``rank_runs.lua`` for each partition, in their order."""
    groups = server.groups(server.keys.partitions, lambda partition: partition.number)
    calls = [Call(script("rank_runs"), list(map(source.key_of, group)), arguments) for group in groups]
    found: list[list[Any]] = []
    for answer in await server.run_many(calls):
        if isinstance(answer, LogUnavailableError):
            raise answer
        found += answer
    return found
