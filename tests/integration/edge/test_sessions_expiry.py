"""Keys of a live session don't expire under it, and those of a dead one do."""

import contextlib
from collections.abc import AsyncIterator

from eventlog.keys import READ_MODELS, SINKS
from eventlog.redis.server import Server, connect
from processor.recognisers import load
from processor.settings import WorkerSettings
from processor.worker import Worker
from tests.integration.edge.conftest import _never_alone
from tests.integration.edge.replicas import PARTITIONS, Replica
from tests.support.waiting import eventually_async

SHORT_TTL_S = 16
"""Of a worker, so that its renewals differ from the edges' writes; it renews after an eighth of it."""


@contextlib.asynccontextmanager
async def short_lived_worker(redis_url: str) -> AsyncIterator[Server]:
    """A worker that gives keys a short time to live."""
    server = await connect(redis_url, partitions=PARTITIONS)
    settings = WorkerSettings(session_ttl_s=SHORT_TTL_S, lease_ms=1500)
    worker = Worker(server, settings, load("mock"), trial=_never_alone)
    await worker.start()
    try:
        yield server
    finally:
        await worker.stop()
        await server.close()


async def test_every_key_of_a_live_session_is_renewed(redis_url: str, edge: Replica) -> None:
    """STITCH-5: while nothing is said the claim holder renews each key of a session, upload and status included."""
    async with short_lived_worker(redis_url) as server, edge.connect() as client:
        run = server.keys.of((await client.next())["session_id"]).run()
        upload = run.session.upload
        streams = [("XADD", key, "*", "field", "there") for key in (run.feed, run.status, upload.audio)]
        hashes = [("HSET", key, "field", "there") for key in (run.view, run.checkpoint, run.recognised, upload.session)]
        positions = map(run.projected, (*READ_MODELS, *SINKS))
        strings = [("SET", key, "0-0") for key in (run.document, upload.head, *positions)]
        session = run.session
        others: list[tuple[str, ...]] = [("SET", key, "there") for key in (session.promoted, session.live_document)]
        others += [("RPUSH", key, "there") for key in (session.live_list, run.list)]
        others += [("HSET", session.live_view, "field", "there"), ("ZADD", session.replays, "1", "there")]
        await server.execute_many([*streams, *hashes, *strings, *others])

        async def renewed() -> bool:
            lives = await server.execute_many([("TTL", key) for key in run.expiring()])
            return all(0 < life <= SHORT_TTL_S for life in lives)

        await eventually_async(renewed, 20)
