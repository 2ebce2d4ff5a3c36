"""How many functions one chunk passes from the socket to the List; see `tests.support.call_path` for what counts."""

import asyncio
import json

import numpy as np
import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_socket

from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from processor.recognisers.loading import load
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections import runner as projection_runner
from projections.lists import Lists
from projections.runner import ProjectionRunner
from tests.integration.edge.replicas import PARTITIONS, TTL_S, replica
from tests.support.call_path import CallPath
from tests.support.pcm import sentence
from tests.support.waiting import eventually_async, lasting

MOST_FUNCTIONS = 45

PATH = (
    "edge.server.server:EdgeProtocol.data_received",
    "edge.websocket.connection:Connection.take_audio",
    "edge.session.uplink:Uplink.add_audio",
    "edge.session.append_batcher:AppendBatcher.enqueue",
    "edge.session.append_batcher:AppendBatcher._flush",
    "edge.session.append_batcher:AppendBatcher._collect",
    "edge.session.uplink:Uplink.prepare",
    "edge.session.uplink:Uplink._place_audio",
    "eventlog.appender:Appender.place_audio",
    "eventlog.redis.redis_log:RedisLog.append",
    "edge.session.append_batcher:AppendBatcher._settle",
    "edge.session.uplink:Uplink.settle",
    "edge.websocket.connection:Connection.on_settled",
    "edge.websocket.outbox:Outbox.post_ack",
    "edge.server.server:EdgeProtocol.send_now",
    "processor.audio_reader:AudioReader.tick",
    "eventlog.redis.redis_log:RedisLog.read",
    "processor.audio_reader:AudioReader._process",
    "processor.timeline:Timeline.feed",
    "processor.speech.segmenter:Segmenter.feed",
    "processor.speech.segmenter:Segmenter._scan_silence",
    "processor.speech.segmenter:Segmenter._scan_speech",
    "processor.speech.segmenter:Segmenter._utterance",
    "processor.active_runs:ActiveRun.clip",
    "processor.recognition_queue:RecognitionQueue.submit",
    "processor.fair_turns:FairTurns.push",
    "processor.recognition_queue:RecognitionQueue._next_batch",
    "processor.recognition_queue:RecognitionQueue._start",
    "processor.recognition_queue:RecognitionQueue._recognise",
    "processor.recognisers.mock:MockRecogniser.recognise",
    "processor.recognition_job:Job.settle",
    "processor.audio_reader:AudioReader._on_recognition",
    "processor.active_runs:ActiveRuns.mark_ready",
    "processor.committer:Committer.commit_ready",
    "processor.active_runs:ActiveRun.next_commit",
    "processor.facts:FactBuilder.facts",
    "eventlog.redis.redis_log:RedisLog.commit",
    "projections.applier:Applier.catch_up",
    "eventlog.projection.projection_log:ProjectionLog.pull",
    "eventlog.codec:decode_fact",
    "projections.projection:plan",
    "projections.lists:Lists.fold",
    "projections.public_json:to_listed_final",
    "eventlog.projection.operations:push",
    "eventlog.projection.projection_log:ProjectionLog.apply",
)
"""The functions that a chunk, the utterance in it, its fact or its final is handed to, in that order."""

BESIDE = {
    "They choose what is read, recognised or applied next.": (
        "processor.audio_reader:AudioReader._due_runs",
        "processor.audio_reader:AudioReader._process_archived",
        "processor.audio_reader:AudioReader._rounds",
        "processor.audio_reader:AudioReader._skip_ticks",
        "processor.archive_prefetch:ArchivePrefetch.take",
        "processor.recognition_queue:RecognitionQueue._next_background_queue",
        "processor.audio_reader:AudioReader._note_pace",
        "processor.arrival_pace:ArrivalPace.add",
        "processor.partials:Partials._look_again",
        "processor.partials:Partials._submit_due",
        "processor.recognition_queue:RecognitionQueue._equal_share",
        "processor.recognition_queue:RecognitionQueue._take",
        "processor.recognition_queue:RecognitionQueue._backlog_batch",
        "processor.fair_turns:FairTurns.pop",
        "processor.fair_turns:_Flows.add",
        "processor.fair_turns:_Flows.take",
        "processor.fair_turns:_Flows.charge",
        "processor.recognition_queue:RecognitionQueue._on_call_end",
        "projections.lists:Lists.reads",
    ),
    "Loops that call one of the path for whatever there is.": (
        "edge.session.append_batcher:AppendBatcher._run",
        "processor.committer:Committer.run",
        "projections.projection_loop:ProjectionLoop.run",
    ),
    "Wake-ups and notices say that a run has news; they carry nothing of the chunk.": (
        "eventlog.redis.wakeups:_Connection.listen",
        "eventlog.redis.wakeups:_Connection._read",
        "eventlog.redis.wakeups:_Connection._parsed",
        "projections.runner:ProjectionRunner._on_wakeup",
        "projections.projection_loop:ProjectionLoop.wake",
        "projections.projection_loop:ProjectionLoop.look",
        "eventlog.projection.projection_log:ProjectionLog.read_notices",
        "eventlog.projection.projection_log:ProjectionLog.ack",
    ),
    "They measure how busy the recogniser is, which partials and early finals go by.": (
        "processor.recogniser_load:RecogniserLoad.begin",
        "processor.recogniser_load:RecogniserLoad.end",
    ),
    "What is done once the chunk has gone on: a clean slate, and the checkpoint of the commit.": (
        "processor.speech.segmenter:Segmenter._restart",
        "processor.speech.vad:fresh_detector",
        "processor.committer:Committer._on_answer",
        "processor.active_runs:ActiveRun.apply_commit",
    ),
    "A sweep's look at a connection: from the count of its bytes it sees that a frame has come.": (
        "edge.session.pause_detector:PauseDetector.look",
        "edge.session.pause_detector:PauseDetector._expect",
    ),
    "Makers of what the next function of the path needs, from settings and clock alone.": (
        "processor.active_runs:ActiveRun._fact_builder",
        "processor.active_runs:_now_ms",
        "projections.applier:ApplyTimer.observe",
    ),
}
"""Functions that run because of the chunk and are handed nothing of it, by the reason why they are none of the path."""

RATE_HZ = 8_000
IDLE_S = 4.0  # the slowest heartbeat beats within it, so that it doesn't count as a part of the path


async def never_tried(*_: object) -> bool:
    """No session here kills its worker."""
    raise AssertionError


def speech() -> bytes:
    """A second of speech and one of silence: an utterance that its chunk both begins and ends."""
    spoken = sentence("0880")[4_000:24_000:2]
    return np.concatenate([np.zeros(1_600, np.int16), spoken, np.zeros(7_000, np.int16)]).tobytes()


async def test_one_chunk_passes_few_functions(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its frame on the socket to its final in the List a chunk passes at most 45 functions of ours."""
    monkeypatch.setattr(projection_runner, "SWEEP_S", 0.5)
    path = CallPath()
    path.watch_threads()
    server = await connect(redis_url, partitions=PARTITIONS)
    runner = ProjectionRunner(server, [Lists()], "test", session_ttl_s=TTL_S)
    await Claims(server, "test", lease_ms=1_500, session_ttl_s=TTL_S).ensure_groups()
    settings = WorkerSettings(session_ttl_s=TTL_S, partials_per_s=0, lease_ms=1_500)
    worker = Worker(server, settings, load("mock"), trial=never_tried)
    try:
        await runner.start()
        await worker.start()
        # A pause would pass the same functions while nothing is sent.
        async with replica(redis_url, pause_ms=0) as edge:
            url = f"ws://127.0.0.1:{edge.port}/v1/transcribe/stream?sample_rate={RATE_HZ}&hangover_ms=300"
            socket: ClientConnection = await asyncio.to_thread(connect_socket, url)
            socket.__enter__()
            start = json.loads(await asyncio.to_thread(socket.recv))
            keys = server.keys.of(start["session_id"])
            await asyncio.to_thread(socket.send, bytes(1_600))  # the session is claimed and read before anything counts
            await eventually_async(lambda: len(worker.active_runs) == 1)
            await lasting(1.5)  # until what followed the opening is over
            with path.idle():
                await lasting(IDLE_S)
            with path.event():
                await asyncio.to_thread(socket.send, speech())
                while not await server.execute("LLEN", keys.list):
                    await lasting(0.01)
                await lasting(0.3)  # for the ack of whatever came last
            await asyncio.to_thread(socket.__exit__, None, None, None)
    finally:
        path.unwatch()
        await worker.stop()
        await runner.stop()
        await server.close()
    beside = {name for names in BESIDE.values() for name in names}
    assert {name for name in path.functions(passed=True) if name not in beside} == set(PATH)
    assert len(PATH) <= MOST_FUNCTIONS
