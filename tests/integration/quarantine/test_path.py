"""Quarantined runs along the whole path: the workers' facts, the clients' messages, and the redrive (SAFE-3)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Self

import pytest

from eventlog.events import RunQuarantined, RunRedriven, SessionOpened, SourceNoted, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.log import Code
from eventlog.readmodel import statuses, views
from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from processor.quarantine_trial import run_trial
from processor.recognisers import Clip, Recogniser, Recognition
from processor.recognisers.mock import MockRecogniser
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.runner import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.decoding.recordings import recording
from tests.integration.decoding.uploads import sent
from tests.integration.edge.replicas import PARTITIONS, Replica, replica
from tests.integration.quarantine.poisoned_workers import (
    REASON,
    TTL_S,
    PickyRecogniser,
    acts,
    facts_of,
    listed,
    standings,
    wait_quarantined,
)
from tests.support.deployment import Deployment, never_tried
from tests.support.edge_clients import status_of, transcript_of
from tests.support.pcm import Story, talk
from tests.support.speech import PCM, client_of, refusal, speech
from tests.support.waiting import eventually_async

TELEPHONE = "sample_rate=8000"
# Streams that don't end continue with comments for ever.
END_S = 60


class Workers:
    """The worker of a test, one build after the other."""

    def __init__(self, url: str) -> None:
        """Over the Redis at `url`."""
        self._url = url
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, recogniser: Recogniser) -> None:
        """Another worker in place of the earlier one."""
        await self._stack.aclose()
        server = await connect(self._url, partitions=PARTITIONS)
        self._stack.push_async_callback(server.close)
        settings = WorkerSettings(session_ttl_s=TTL_S, tick_ms=5)
        worker = Worker(server, settings, recogniser, trial=never_tried)
        await worker.start()
        self._stack.push_async_callback(worker.stop)


@pytest.fixture
async def workers(redis_url: str) -> AsyncIterator[Workers]:
    """A worker that refuses telephone speech, until another is started."""
    async with Workers(redis_url) as found:
        await found.start(PickyRecogniser())
        yield found


@pytest.fixture
async def edge(redis_url: str, workers: Workers) -> AsyncIterator[Replica]:
    """An edge before these workers and all projections, in which no wait ends by itself in time."""
    assert workers
    server = await connect(redis_url, partitions=PARTITIONS)
    models: list[Projection] = [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()]
    runner = ProjectionRunner(server, models, "test", session_ttl_s=TTL_S)
    await Claims(server, "test", lease_ms=5000, session_ttl_s=TTL_S).ensure_groups()
    await runner.start()
    async with replica(redis_url, session_end_timeout_s=300, result_timeout_s=300, batch_timeout_s=300) as running:
        yield running
    await runner.stop()
    await server.close()


async def test_a_redriven_run_states_every_final_once(deployment: Deployment) -> None:
    """SAFE-3, SAFE-1: quarantined in its middle and redriven after an upgrade, a run has each final once."""
    story = Story(talk(8_000), 8_000)
    session = await deployment.spoken(story)
    worker = await deployment.started(PickyRecogniser(accepted=1))
    quarantined = await wait_quarantined(deployment.server, session.run)
    assert REASON in quarantined.reason
    await worker.stop()
    said = [fact for fact in await facts_of(deployment.server, session.run) if isinstance(fact, UtteranceFinal)]
    await deployment.started(MockRecogniser())
    assert await acts(deployment.server).redrive(quarantined) == Code.OK
    await deployment.ended(session)
    facts = await facts_of(deployment.server, session.run)
    assert standings(facts) == [RunQuarantined, RunRedriven]
    finals = [fact for fact in facts if isinstance(fact, UtteranceFinal)]
    assert finals[: len(said)] == said
    stated = [(at.offset, fact) for at, fact in await session.facts() if at.sequence == 0 and at.offset]
    assert stated == [(at.offset, fact) for at, fact in session.expected() if at.sequence == 0 and at.offset]


async def test_a_client_gets_an_error_instead_of_a_wait(edge: Replica, workers: Workers) -> None:
    """SAFE-3, STATUS-3: a client gets `quarantined`, and its end at once at stop; status and view say why."""
    server = edge.core.server
    async with edge.connect(TELEPHONE) as client:
        session_id = (await client.until("session_start"))["session_id"]
        keys = server.keys.of(session_id).run()
        await client.send(speech(1)[: 2 * 8_000 * 3])
        await client.send("finalize")
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("quarantined", False)
        assert REASON in error["message"]
        await client.send("stop")
        end = await client.until("session_end")
        assert end["transcript"] is None
        assert end["transcript_url"]
        assert await client.closed() == 1000
    quarantined = await wait_quarantined(server, keys)
    async with asyncio.timeout(END_S), status_of(edge, session_id) as stream:
        *_, failed = [one.data for one in await stream.all() if one.data]
    assert failed["status"] == "failed"
    assert REASON in failed["message"]
    await eventually_async(lambda: is_viewed(edge, keys, "quarantined"))
    assert REASON in str(await detail(edge, keys))
    async with asyncio.timeout(END_S), transcript_of(edge, session_id) as stream:
        assert (await stream.event()).kind == "quarantined"
        await workers.start(MockRecogniser())
        assert await acts(server).redrive(quarantined) == Code.OK
        kinds = [one.kind for one in await stream.all() if one.kind]
    assert kinds == ["redriven", "final", "session_end"]
    await eventually_async(lambda: has_status(edge, keys, "completed"))
    await eventually_async(lambda: is_viewed(edge, keys, "stop"))
    assert await detail(edge, keys) is None


async def is_viewed(edge: Replica, keys: RunKeys, reason: str) -> bool:
    """Whether the view of a run has that reason."""
    view = await views.read_view(edge.core.server, keys)
    return view is not None and view.reason == reason


async def detail(edge: Replica, keys: RunKeys) -> str | None:
    """The view's cause of a run's failure."""
    view = await views.read_view(edge.core.server, keys)
    assert view
    return view.detail


async def has_status(edge: Replica, keys: RunKeys, status: str) -> bool:
    """Whether the last status message has it."""
    found = await statuses.read_last_status(edge.core.server, keys)
    return found is not None and statuses.decode_status(found[1]).status == status


async def test_a_resumed_speaker_is_notified_too(edge: Replica, workers: Workers) -> None:
    """A client that resumes a session quarantined meanwhile gets the error, and continues once it is redriven."""
    server = edge.core.server
    async with edge.connect(TELEPHONE) as client:
        start = await client.until("session_start")
        await client.send(speech(1)[: 2 * 8_000 * 3])
        await client.send("finalize")
        await client.until("error")
        client.cut()
    quarantined = await wait_quarantined(server, server.keys.of(start["session_id"]).run())
    query = f"session_id={start['session_id']}&resume_token={start['resume_token']}"
    async with edge.connect(f"{query}&next_utterance=0") as again:
        assert (await again.until("error"))["code"] == "quarantined"
        await workers.start(MockRecogniser())
        assert await acts(server).redrive(quarantined) == Code.OK
        await again.until("final")
        await again.send("stop")
        assert (await again.until("session_end"))["transcript"]


@pytest.mark.parametrize("path", ["/v1/transcribe", "/live/transcribe", "/batch/process"])
async def test_requests_are_answered(edge: Replica, path: str) -> None:
    """A request that waits for its recording gets `quarantined` at once, with the session's id."""
    async with client_of(edge) as client:
        answer = await client.post(f"{path}?{TELEPHONE}", content=speech(1)[: 2 * 8_000 * 3], headers=PCM)
    assert refusal(answer) == (422, "quarantined")
    [quarantined] = await listed(edge.core.server)
    assert quarantined.keys.session_id in answer.json()["detail"]
    assert REASON in answer.json()["detail"]


async def test_chunks_and_stop_are_answered(edge: Replica) -> None:
    """A session fed by requests answers its chunk, and its stop, without waiting for a text that doesn't come."""
    async with client_of(edge) as client:
        started = await client.post(f"/live/start?encoding=linear16&{TELEPHONE}")
        session_id = started.json()["session_id"]
        audio = speech(2)[: 2 * 8_000 * 6]
        chunk = await client.post(f"/live/transcribe?session_id={session_id}", content=audio, headers=PCM)
        stop = await client.post(f"/live/{session_id}/stop")
        pending = await client.get(f"/batch/{session_id}")
    assert refusal(chunk) == refusal(stop) == (422, "quarantined")
    assert pending.status_code == 202
    assert pending.json()["status"]["status"] == "failed"


async def test_a_failed_run_fails_its_waiters(edge: Replica) -> None:
    """SAFE-3: once a quarantined session is failed, its client, its view and waiting requests get the failure."""
    server = edge.core.server
    async with edge.connect(TELEPHONE) as client, client_of(edge) as http:
        session_id = (await client.until("session_start"))["session_id"]
        await client.send(speech(1)[: 2 * 8_000 * 3])
        await client.send("finalize")
        await client.until("error")
        keys = server.keys.of(session_id).run()
        assert await acts(server).fail(await wait_quarantined(server, keys)) == Code.OK
        error = await client.until("error")
        assert error["code"] == "quarantined"
        assert (await client.until("session_end"))["reason"] == "failed"
        answer = await http.get(f"/batch/{session_id}")
    assert refusal(answer) == (422, "quarantined")
    await eventually_async(lambda: is_viewed(edge, keys, "failed"))


class DeadlyRecogniser(MockRecogniser):
    """Fails permanently on every utterance, in place of dying of it."""

    def __init__(self) -> None:
        """Nothing was tried yet."""
        super().__init__()
        self.tried = 0

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Count, and fail."""
        self.tried += len(clips)
        raise ZeroDivisionError("a defect")


async def test_recordings_are_tried_alone_too(single: Deployment) -> None:
    """SAFE-3: a suspected recording is decoded in its trial, so audio that kills its workers is met in it as well."""
    upload = await sent(single, recording("webm"))
    claims = await single.claims("w1", 5_000)
    await claims.ensure_groups()
    [claim] = await claims.take_new(single.server.keys.partitions, 9)
    deadly = DeadlyRecogniser()
    settings = WorkerSettings(session_ttl_s=TTL_S)
    # One may end with a first commit, which says what the recording is and nothing more.
    trials = [await run_trial(single.server, settings, deadly, claim) for _ in range(2)]
    assert deadly.tried > 0
    assert trials[1] is False
    assert [type(fact) for _, fact in await upload.decoded_facts()] == [SessionOpened, SourceNoted]
    assert await run_trial(single.server, settings, MockRecogniser(), claim)
