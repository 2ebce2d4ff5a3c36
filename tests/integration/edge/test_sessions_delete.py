"""Deleting an open session: its client gets an error, and concurrent writes leave nothing behind."""

import asyncio
import contextlib

import pytest
import websockets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from eventlog.keys import SessionKeys
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import FRAME_SAMPLES, Client, Replica, replica
from tests.integration.edge.test_resume import resuming
from tests.integration.edge.test_sessions import ask
from tests.integration.edge.test_stream import spoken
from tests.support.key_search import remains, without_ttl
from tests.support.waiting import eventually_async

# Each example streams some seconds of audio through a whole path.
FEW = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)  # fmt: skip


UTTERANCES = 2


async def test_its_client_gets_an_error(edge: Replica) -> None:
    """A client whose session is deleted receives `session_gone` and is closed, and can't resume it (SESS-4)."""
    async with edge.connect() as client:
        start = await client.next()
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        assert (await ask(edge, f"/v1/sessions/{start['session_id']}", "DELETE")).status_code == 204
        assert (await client.until("error"))["code"] == "session_gone"
        assert await client.closed() == 1008
    async with edge.connect(resuming(start)) as client:
        assert (await client.next())["code"] == "unknown_session"
    assert await edge.core.reservations.held() == 0


@pytest.mark.usefixtures("path")
async def test_an_ended_session_is_deleted_too(redis_url: str) -> None:
    """After the end a client fetches the transcript and deletes it, and then it is gone (STITCH-5)."""
    async with replica(redis_url) as edge, edge.connect() as client:
        address = f"/v1/sessions/{(await client.next())['session_id']}"
        await spoken(client, utterances=1)
        await client.send("stop")
        end = await client.until("session_end")
        assert (await ask(edge, f"{address}/transcript")).json()["transcript"] == end["transcript"]
        assert (await ask(edge, address, "DELETE")).status_code == 204
        for path in (address, f"{address}/transcript", f"{address}/transcript.vtt"):
            assert (await ask(edge, path)).status_code == 404


async def _speak_on(client: Client, stops: bool) -> None:  # noqa: FBT001 - drawn
    """Speaks until the server closes the connection."""
    with contextlib.suppress(websockets.ConnectionClosed):
        await spoken(client, UTTERANCES)
        await client.send("stop" if stops else "finalize")
        await client.closed()


@FEW
@given(messages=st.integers(1, 12), stops=st.booleans(), is_cut=st.booleans())
async def test_deletion_leaves_nothing(redis_url: str, messages: int, stops: bool, is_cut: bool) -> None:  # noqa: FBT001
    """STITCH-7: a session deleted at any moment, while every role works, leaves no id and no word but the tombstone."""
    async with behind(redis_url), replica(redis_url, session_end_timeout_s=1.0) as edge:
        async with edge.connect() as client:
            session_id = (await client.next())["session_id"]
            speaking = asyncio.create_task(_speak_on(client, stops))
            await eventually_async(lambda: len(client.received) > messages or len(client.of("final")) == UTTERANCES)
            if is_cut:
                client.cut()
            deleted = await ask(edge, f"/v1/sessions/{session_id}", "DELETE")
            assert deleted.status_code == 204
            await speaking
        words = [final["text"] for final in client.of("final")]
        keys = edge.core.server.keys.of(session_id)

        async def only_the_tombstone() -> bool:
            assert await remains(edge.core.server, session_id, *words) == [keys.partition.erased]
            return True

        await eventually_async(only_the_tombstone, 30)
        assert await _stays(edge, keys)


async def _stays(edge: Replica, keys: SessionKeys) -> bool:
    """Whether still nothing is there once another session has gone all the way through the same processes."""
    async with edge.connect() as client:
        address = f"/v1/sessions/{(await client.next())['session_id']}"
        await spoken(client, utterances=1)
        await client.send("stop")
        assert (await client.until("session_end"))["transcript"]
    # It spoke the same words, which the next example is not to find.
    await ask(edge, address, "DELETE")
    return await remains(edge.core.server, keys.session_id) == [keys.partition.erased]


STEPS = st.sampled_from(["speak", "finalize", "keepalive", "cut", "look"])


@FEW
@given(steps=st.lists(STEPS, max_size=8), stops=st.booleans())
async def test_every_key_expires(redis_url: str, steps: list[str], stops: bool) -> None:  # noqa: FBT001
    """STITCH-7: at every moment of a session's life, and after it, each of its keys has a TTL (STITCH-5)."""
    async with (
        behind(redis_url), replica(redis_url, session_end_timeout_s=5.0) as edge, contextlib.AsyncExitStack() as stack,
    ):  # fmt: skip
        client = await stack.enter_async_context(edge.connect())
        start = await client.next()
        for step in steps:
            if step == "speak":
                await spoken(client, utterances=1)
            elif step == "cut":
                client.cut()
                client = await stack.enter_async_context(edge.connect(resuming(start)))
                await client.next()
            elif step != "look":
                await client.send(step)
            assert await without_ttl(edge.core.server, start["session_id"]) == []
        if stops:
            await client.send("stop")
            await client.until("session_end")
        assert await without_ttl(edge.core.server, start["session_id"]) == []
