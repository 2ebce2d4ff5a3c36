"""The model against a real Redis: without this comparison the simulation would prove nothing."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.keys import Keys
from eventlog.redis.server import Server, connect
from tests.simulation.backends import Backend, ModelServer, Operation

PARTITIONS = 1

either = st.integers(0, 1)
yes = st.booleans()
few = st.integers(1, 3)
number = st.integers(0, 5)
EXAMPLES = 60


def op(
    name: str, *numbers: st.SearchStrategy[int], **flags: st.SearchStrategy[bool]
) -> st.SearchStrategy[Operation]:
    """Operations of one kind."""
    return st.tuples(st.just(name), st.tuples(*numbers), st.fixed_dictionaries(flags))


operations = st.one_of(
    op("open", either), op("resume", either, either), op("append", either, st.integers(1, 2), either, seals=yes),
    op("seal", either, idle=yes), op("forget", either), op("groups", either), op("take_new", either, few),
    op("take_over", either, few), op("age", number), op("lose_entry", number), op("begin", either),
    op("renew", either), op("hand_over", number, absolved=yes), op("quarantine", number), op("sweep"),
    op("retire", either, silent=yes), op("commit", number, either, ends=yes),
    op("replay", either, either), op("news", either, own=yes, idle=yes), op("age_notice", either), op("ack"),
    op("walk"), op("trim", number), op("project", either, few, stale=yes),
)  # fmt: skip


def plain(name: str, *numbers: int, **flags: bool) -> Operation:
    """One operation."""
    return name, numbers, flags


LIFE_CYCLE = [
    plain("open", 0), plain("open", 1), plain("append", 0, 1, 0, seals=False), plain("append", 0, 1, 0, seals=True),
    plain("take_new", 0, 2), plain("begin", 0), plain("commit", 0, 1, ends=False), plain("age", 1),
    plain("take_over", 1, 2), plain("begin", 1), plain("commit", 1, 1, ends=False),
    plain("commit", 2, 1, ends=False), plain("news", 0, own=False, idle=False), plain("age_notice", 0),
    plain("news", 1, own=True, idle=True), plain("project", 0, 1, stale=False), plain("project", 0, 3, stale=False),
    plain("project", 0, 3, stale=True), plain("renew", 0), plain("hand_over", 2, absolved=True),
    plain("commit", 0, 1, ends=True), plain("project", 0, 3, stale=False), plain("replay", 0, 0),
    plain("replay", 0, 0), plain("replay", 1, 0), plain("take_new", 1, 3), plain("lose_entry", 3), plain("sweep"),
    plain("quarantine", 4), plain("ack"), plain("trim", 1), plain("news", 0, own=False, idle=False), plain("walk"),
    plain("seal", 1, idle=True), plain("seal", 1, idle=False), plain("retire", 0, silent=False),
    plain("retire", 0, silent=True), plain("forget", 0), plain("resume", 0, 0), plain("resume", 1, 1),
]  # fmt: skip


@pytest.fixture
async def real(redis_url: str) -> AsyncIterator[Server]:
    """A connection to a real server."""
    server = await connect(redis_url, partitions=PARTITIONS)
    yield server
    await server.close()


async def differences(real: Server, done: list[Operation]) -> list[object]:
    """The first difference of the replies, or those of the stored data at the end."""
    await real.execute("FLUSHALL")
    one, other = Backend(real), Backend(ModelServer(Keys(PARTITIONS)))
    for operation in [plain("open", 0), plain("open", 1), plain("groups", 0), *done]:
        found, modelled = await one.do(operation), await other.do(operation)
        if found != modelled:
            return [operation, found, modelled]
    return [(here, there) for here, there in zip(await one.dump(), await other.dump(), strict=True) if here != there]


async def test_a_whole_life_cycle_is_the_same_in_the_model(real: Server) -> None:
    """Opened, claimed, taken over, committed, projected, replayed and ended, sessions are as on a real Redis."""
    assert await differences(real, LIFE_CYCLE) == []


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.lists(operations, max_size=60))
async def test_the_model_answers_as_redis_does(real: Server, done: list[Operation]) -> None:
    """Any calls of log, claims and projections get Redis's replies and leave the same data."""
    assert await differences(real, done) == []
