"""What a connection leaves behind: nothing that waits for the garbage collector."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from tests.integration.edge.replicas import FRAME_SAMPLES, Replica
from tests.support.waiting import eventually_async


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("stops", [True, False])
async def test_a_connection_is_freed_as_soon_as_it_is_over(edge: Replica, *, stops: bool) -> None:
    """A session's seconds of audio kept and all its objects are freed at its connection's end, with no collector."""
    async with edge.connect() as client:
        await client.next()
        await client.speak(3)
        await client.acked(3 * FRAME_SAMPLES)
        left = [weakref.ref(one) for one in edge.core.connections]
        assert len(left) == 1
        if stops:
            await client.send("stop")
            await client.until("session_end")
            await client.closed()
    await eventually_async(lambda: all(one() is None for one in left))
