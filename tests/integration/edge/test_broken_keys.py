"""A session whose keys are overwritten fails alone: the edge and its other sessions continue."""

import pytest

from eventlog.redis.server import connect
from tests.integration.edge.replicas import FRAME_SAMPLES, PARTITIONS, Replica, frame
from tests.integration.edge.test_resume import pcm, resuming


@pytest.mark.parametrize(("key", "code"), [("session", "internal_error"), ("audio", "session_gone")])
async def test_an_overwritten_key_ends_its_session_alone(edge: Replica, redis_url: str, key: str, code: str) -> None:
    """The session with the broken key gets an error, its client's resume too, and the other one is acked throughout."""
    server = await connect(redis_url, partitions=PARTITIONS)
    async with edge.connect() as other, edge.connect() as client:
        kept, start = await other.next(), await client.next()
        for one in (other, client):
            await one.speak(1)
            await one.acked(FRAME_SAMPLES)
        await server.execute("SET", getattr(server.keys.of(start["session_id"]), key), "text")
        for one in (client, other):
            await one.speak(1, first=2)
        assert (await client.until("error"))["code"] == code
        await client.closed()
        await other.acked(2 * FRAME_SAMPLES)
        async with edge.connect(resuming(start)) as again:
            await again.speak(1, first=2)
            await again.speak(1, first=3)
            await again.closed()
            assert again.of("error")
        await other.send("keepalive")
        await other.speak(1, first=3)
        await other.acked(3 * FRAME_SAMPLES)
    assert not edge.core.has_failed
    assert await pcm(edge, kept["session_id"]) == b"".join(map(frame, (1, 2, 3)))
    await server.close()
