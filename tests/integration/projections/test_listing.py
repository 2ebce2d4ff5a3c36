"""Listings and metrics over made-up sessions: pages, states, tenants, and what the log adds."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventlog.positions import SEALED
from eventlog.readmodel.listings import OPEN_RANK, Cursor, list_sessions, read_metrics, sweep_open_runs
from eventlog.redis.server import Server, connect
from tests.integration.projections.facts import RATE_HZ
from tests.support.servers import Server as TestServer

PARTITIONS = 4
TTL_S = 1000


class Made(NamedTuple):
    """A session as its projection would have written it."""

    session_id: str
    tenant_id: str
    state: str
    at_ms: int
    """Its start while it is open, else its end."""

    @property
    def rank(self) -> tuple[int, str]:
        """Its place in the listing, the greatest first."""
        return self.at_ms + (OPEN_RANK if self.state != "CLOSED" else 0), f"{self.session_id} live"


@pytest.fixture
async def few(server: TestServer) -> AsyncIterator[Server]:
    """A Redis with few partitions, once single and once a cluster."""
    connected = await connect(server.url, partitions=PARTITIONS)
    yield connected
    await connected.close()


async def write(server: Server, made: Made) -> None:
    """Put a session where the projection puts it."""
    run = server.keys.of(made.session_id).run()
    partition, is_open = run.partition, made.state != "CLOSED"
    fields: dict[str, str | int | float] = {
        "session_id": made.session_id, "run": "live", "state": made.state, "tenant_id": made.tenant_id,
        "sample_rate": RATE_HZ, "finals": 2, "audio_seconds": 1.5, "opened_ms": made.at_ms,
    }  # fmt: skip
    answers = await server.execute_many([
        ("HSET", run.view, *(part for item in fields.items() for part in item)),
        ("ZADD", partition.open_runs if is_open else partition.ended_runs, made.at_ms, run.member),
        ("ZADD", partition.tenant_runs(made.tenant_id), made.rank[0], run.member),
    ])
    assert not [one for one in answers if isinstance(one, Exception)]


async def pages(server: Server, limit: int, state: str | None, tenant_id: str | None) -> list[str]:
    """All ids, page by page."""
    found: list[str] = []
    after: Cursor | None = None
    while True:
        page = await list_sessions(server, state=state, tenant_id=tenant_id, limit=limit, after=after)
        found += [view.session_id for view in page.views]
        assert len(page.views) <= limit
        if page.next is None:
            return found
        after = Cursor.decoded(page.next.encoded())


sessions = st.builds(
    lambda number, tenant_id, state, at_ms: (number, tenant_id, state, at_ms),
    st.integers(0, 10**6), st.sampled_from(["", "acme", "Zoë & co"]),
    st.sampled_from(["CREATED", "ACTIVE", "CLOSED"]), st.integers(0, 2) | st.integers(0, 2 * 10**12),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(sessions, max_size=60, unique_by=lambda one: one[0]),
    limit=st.integers(1, 30),
    state=st.sampled_from([None, "CREATED", "ACTIVE", "CLOSED"]),
    tenant_id=st.sampled_from([None, "", "acme", "Zoë & co"]),
)
@example(drawn=[(number, "", "CLOSED", 1) for number in range(60)], limit=4, state=None, tenant_id=None)
async def test_pages_make_the_complete_listing(
    few: Server, drawn: list[tuple[int, str, str, int]], limit: int, state: str | None, tenant_id: str | None
) -> None:
    """Pages of any size, tenant and state hold each session once: open ones first, the latest first (SESS-4)."""
    await few.client.flushall()
    made = [Made(f"s{number}", *rest) for number, *rest in drawn]  # type: ignore[arg-type] # mypy loses their types
    for one in made:
        await write(few, one)
    wanted = [one for one in made if state in {None, one.state} and tenant_id in {None, one.tenant_id}]
    expected = [one.session_id for one in sorted(wanted, key=lambda one: one.rank, reverse=True)]
    assert await pages(few, limit, state, tenant_id) == expected


async def test_metrics_are_of_a_tenant_or_of_all(few: Server) -> None:
    """Aggregates count open sessions by state and ended ones apart, a tenant's own or those of all (SESS-4)."""
    for number, (tenant_id, state) in enumerate(
        [("a", "CREATED"), ("a", "ACTIVE"), ("b", "ACTIVE"), ("a", "CLOSED"), ("b", "CLOSED"), ("b", "CLOSED")]
    ):
        await write(few, Made(f"s{number}", tenant_id, state, number + 1))
    run = few.keys.of("s1").run()
    await few.execute("HSET", run.session.session, "guard", "1 64000-0")
    await few.execute("HSET", run.checkpoint, "cursor", "16000-0")
    of_all, of_a = await read_metrics(few), await read_metrics(few, "a")
    assert (of_all.open, of_all.ended, of_all.finals) == (3, 3, 6)
    assert of_all.states == {"created": 1, "active": 2, "closing": 0, "closed": 3}
    assert (of_a.open, of_a.ended, of_a.finals, of_a.audio_seconds) == (2, 1, 4, 5.5)
    assert (of_a.lag_seconds, of_a.oldest_lag_seconds) == (3.0, 3.0)


async def test_a_sealed_session_is_closing(few: Server) -> None:
    """Between a client's stop and the last fact a session is closing, in listings as in its view (SESS-4)."""
    await write(few, Made("s1", "", "ACTIVE", 5))
    guard = "1 18446744073709551615-18446744073709551615"
    await few.execute("HSET", few.keys.of("s1").session, "guard", guard)
    assert [view.state for view in (await list_sessions(few)).views] == ["CLOSING"]
    assert [view.state for view in (await list_sessions(few, state="CLOSING")).views] == ["CLOSING"]
    assert (await list_sessions(few, state="ACTIVE")).views == []


async def test_an_end_that_is_not_in_the_view_has_no_position(few: Server) -> None:
    """Between its last commit and its view a session keeps the audio of its last final; the end's id is no length."""
    await write(few, Made("s1", "t", "ACTIVE", 1))
    run = few.keys.of("s1").run()
    for key, field, value in (
        (run.session.session, "guard", f"1 {SEALED}"), (run.checkpoint, "cursor", str(SEALED)),
    ):  # fmt: skip
        await few.execute("HSET", key, field, value)
    [view] = (await list_sessions(few)).views
    assert (view.state, view.audio_seconds, view.lag_seconds) == ("CLOSING", 1.5, 0.0)
    assert (await read_metrics(few)).audio_seconds == 1.5


async def test_expired_sessions_leave_the_lists(few: Server) -> None:
    """A run whose view is gone is left out of a page, and taken out of the lists by it."""
    await write(few, Made("s1", "a", "CLOSED", 5))
    await write(few, Made("s2", "a", "ACTIVE", 5))
    for name in ("s1", "s2"):
        await few.execute("DEL", few.keys.of(name).view)
    assert (await list_sessions(few, tenant_id="a")).views == []
    assert (await list_sessions(few)).views == []
    for name in ("s1", "s2"):
        partition = few.keys.of(name).partition
        assert not await few.execute("EXISTS", partition.open_runs, partition.ended_runs, partition.tenant_runs("a"))


async def test_a_tenants_list_lives_as_long_as_its_sessions(few: Server) -> None:
    """A tenant's list doesn't expire under a session that lasts longer than a TTL (STITCH-5)."""
    await write(few, Made("s1", "a", "ACTIVE", 5))
    run = few.keys.of("s1").run()
    of_tenant = run.partition.tenant_runs("a")
    await few.execute("EXPIRE", run.view, TTL_S)
    await few.execute("EXPIRE", of_tenant, 10)
    assert await sweep_open_runs(few) == 0
    assert TTL_S - 10 < await few.execute("TTL", of_tenant) <= TTL_S


@pytest.mark.parametrize("text", ["", "x", "e30", "W10", "WzEsMl0", "é", "====", "WyJhIiwiYiJd"])
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    """Only what a listing gave is taken as a cursor."""
    with pytest.raises(ValueError, match="cursor"):
        Cursor.decoded(text)
