"""The whole path: recordings in at the edge, signed events out at receivers."""

import contextlib
import functools
from collections.abc import AsyncIterator

import httpx2
import pytest

from eventlog.projection.dead_letters import read_dead_letters
from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from processor.recognisers import load
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections.feeds import Feeds
from projections.lists import Lists
from projections.runner import Forwarding, ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from projections.webhooks import Webhooks
from tests.integration.edge.replicas import PARTITIONS, TTL_S, Replica, replica
from tests.integration.webhooks.receivers import Receiver, Reply
from tests.support.speech import client_of, speech
from tests.support.waiting import eventually_async

WAIT_S = 30.0
TENANT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
HEADERS = {"x-tenant-id": TENANT, "x-user-id": "ana", "content-type": "audio/l16"}


async def _never_alone(*_: object) -> bool:
    raise AssertionError("no session of these tests kills its worker")


@contextlib.asynccontextmanager
async def forwarding(redis_url: str, name: str = "test") -> AsyncIterator[ProjectionRunner]:
    """Runs all projections and the webhooks."""
    server = await connect(redis_url, partitions=PARTITIONS)
    runner = ProjectionRunner(
        server, [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()], name, session_ttl_s=TTL_S,
        forwarding=Forwarding([Webhooks(server, private=True)], lease_ms=2000),
    )  # fmt: skip
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()
        await server.close()


@pytest.fixture
async def edge(redis_url: str) -> AsyncIterator[Replica]:
    """An edge and a worker with the mock recogniser."""
    server = await connect(redis_url, partitions=PARTITIONS)
    await Claims(server, "test", lease_ms=5000, session_ttl_s=TTL_S).ensure_groups()
    worker = Worker(server, WorkerSettings(session_ttl_s=TTL_S), load("mock"), trial=_never_alone)
    await worker.start()
    try:
        async with replica(
            redis_url, webhook_allow_private=True, result_timeout_s=WAIT_S, batch_timeout_s=WAIT_S
        ) as running:
            yield running
    finally:
        await worker.stop()
        await server.close()


async def subscribed(client: httpx2.AsyncClient, receiver: Receiver, *kinds: str) -> str:
    """The id of a receiver's new subscription to the tenant's events."""
    requests = {"url": receiver.url, "secret": receiver.secret, **({"kinds": kinds} if kinds else {})}
    answer = await client.post(f"/v1/webhooks?tenant={TENANT}", json=requests)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def processed(client: httpx2.AsyncClient) -> str:
    """The interaction id of a recording that was processed."""
    answer = await client.post("/batch/process", content=speech(2), headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["interaction_id"])


async def test_a_finished_recording_is_delivered(redis_url: str, edge: Replica, receiver: Receiver) -> None:
    """A recording's completion reaches its tenant's webhook, however often that fails at first (BATCH-4, BATCH-6)."""
    receiver.replies += [Reply(503), Reply(cut=True)]
    async with forwarding(redis_url), client_of(edge) as client:
        await subscribed(client, receiver, "BatchProcessingCompleted")
        interaction_id = await processed(client)
        await eventually_async(lambda: receiver.taken, WAIT_S)
    assert len(set(receiver.event_ids)) == 1
    contents = receiver.posts[-1].content
    assert contents["type"] == "BatchProcessingCompleted"
    body = contents["data"]
    assert (body["interaction_id"], body["tenant_id"], body["user_id"]) == (interaction_id, TENANT, "ana")
    assert (body["status"], body["version"], bool(body["data"]["raw_transcript"])) == ("completed", "1.0", True)


async def test_sentences_come_in_order(redis_url: str, edge: Replica, receiver: Receiver, other: Receiver) -> None:
    """Each subscription receives a session's utterances in order and its ends, though another one fails meanwhile."""
    other.replies += [Reply(500)] * 2
    kinds = ["TranscriptUtterance", "BatchProcessingCompleted", "TranscriptEnded"]
    async with forwarding(redis_url), client_of(edge) as client:
        for one in (receiver, other):
            await subscribed(client, one, *kinds)
        await processed(client)
        for one in (receiver, other):
            await eventually_async(functools.partial(_has_taken, one, 4), WAIT_S)
    for one in (receiver, other):
        contents = {post.event_id: post.content for post in one.posts}
        ordered = [contents[event_id] for event_id in one.taken]
        assert [post["data"]["utterance"] for post in ordered[:2]] == [0, 1]
        assert {post["type"] for post in ordered[2:]} == {"BatchProcessingCompleted", "TranscriptEnded"}
    assert receiver.taken == other.taken


def _has_taken(receiver: Receiver, count: int) -> bool:
    return len(receiver.taken) == count


async def test_a_refused_event_becomes_a_dead_letter(redis_url: str, edge: Replica, receiver: Receiver) -> None:
    """An event that a receiver refuses is dead-lettered, and the reason names subscription and status (BATCH-6)."""
    receiver.always = Reply(403, body=b"no")
    async with forwarding(redis_url), client_of(edge) as client:
        webhook_id = await subscribed(client, receiver, "BatchProcessingCompleted")
        await processed(client)

        async def reasons() -> list[str]:
            found = read_dead_letters(edge.core.server, ["webhooks"])
            return [dead_letter.reason async for dead_letters in found for dead_letter in dead_letters]

        assert await eventually_async(reasons, WAIT_S) == [f"webhook {webhook_id}: answered 403"]
    assert len(receiver.posts) == 1


async def test_another_process_continues(redis_url: str, edge: Replica, receiver: Receiver) -> None:
    """What one process couldn't deliver before its end another one delivers, with the same id."""
    receiver.always = Reply(503)
    async with client_of(edge) as client:
        async with forwarding(redis_url, "first"):
            await subscribed(client, receiver)
            await processed(client)
            await eventually_async(lambda: len(receiver.posts) >= 2, WAIT_S)
        ids = set(receiver.event_ids)
        receiver.always = None
        async with forwarding(redis_url, "second"):
            await eventually_async(lambda: len(set(receiver.taken)) == 2, WAIT_S)
    assert ids <= set(receiver.taken)
