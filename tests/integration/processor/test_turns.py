"""Fair turns of a worker's sessions: one client's backlog holds up no other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from eventlog.keys import SessionKeys
from eventlog.positions import Position
from processor import audio_reader
from processor.recognisers import Clip
from tests.support.deployment import Deployment, Session, finals_in, held
from tests.support.pcm import Story, sentence, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async

BURST = Story(np.tile(talk(), (12, 1)))  # nearly two minutes at once
SILENCE = np.zeros(16_000, np.int16)
SHORT = Story(np.concatenate([SILENCE[:8_000], sentence("0880")[:48_000], SILENCE])[:, None])


def final_clips(session: Session) -> set[bytes]:
    """The samples of a session's finals."""
    return {
        session.story.samples[final.start_samples : final.end_samples, 0].tobytes()
        for final in finals_in(session.expected())
    }


def clips_of(calls: list[list[Clip]]) -> list[bytes]:
    """The samples of all calls' finals, in order."""
    return [clip.pcm for call in calls for clip in call if not clip.partial]


@pytest.mark.parametrize("max_parallel", [1, 2])
async def test_a_burst_holds_up_no_neighbour(single: Deployment, max_parallel: int) -> None:
    """Beside a client that sent two minutes at once, another's finals are recognised next (WORD-7)."""
    recogniser = HeldRecogniser(max_batch=4, max_parallel=max_parallel)
    worker = await single.started(recogniser, partials_per_s=0, early_final_ms=0)
    burst = await single.spoken(BURST)
    await held(worker, 1)
    [run] = worker.active_runs
    await eventually_async(lambda: run.waiting_utterances >= 8)
    before = len(recogniser.calls)
    assert len(clips_of(recogniser.calls)) < 8, "the rest waits"
    neighbour = await single.spoken(SHORT)
    await eventually_async(lambda: worker._recognition.waiting_live or len(recogniser.calls) > before)
    recogniser.gate.set()
    await single.ended(neighbour, burst)
    owed = final_clips(neighbour)
    order = clips_of(recogniser.calls[before:])
    # In the meantime the burst gets what its share allows: one clip between two of the neighbour's.
    assert set(order[: len(owed) + 1]) >= owed
    assert await neighbour.facts() == neighbour.expected()
    assert await burst.facts() == burst.expected()


async def test_tenants_share_a_worker(single: Deployment) -> None:
    """A tenant with one session waits for one turn of another tenant's sessions, however many these are (WORD-7)."""
    recogniser = HeldRecogniser(max_batch=1)
    worker = await single.started(recogniser, partials_per_s=0, early_final_ms=0)
    many = [await single.spoken(SHORT) for _ in range(6)]
    await eventually_async(lambda: worker._recognition.waiting_live >= 5)
    one = await single.open(Story(SHORT.samples * 2), tenant_id="small")
    await one.say()
    await eventually_async(lambda: any(
        run.waiting_utterances for run in worker.active_runs if run.claim.keys.member == one.run.member
    ))  # fmt: skip
    recogniser.gate.set()
    await single.ended(one, *many)
    order = clips_of(recogniser.calls)
    assert min(order.index(pcm) for pcm in final_clips(one)) <= 2


async def test_reading_goes_in_turns(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sessions with more audio than one read takes a few are read at a time, live ones always (WORD-7)."""
    monkeypatch.setattr(audio_reader, "CATCHING_UP_RUNS", 2)
    worker = await single.worker(partials_per_s=0, max_read_bytes=64_000)
    rounds: list[set[str]] = []
    read = worker._log.read

    async def noted(cursors: Mapping[SessionKeys, Position], **bounds: Any) -> Any:  # noqa: ANN401 - the log's own
        found = await read(cursors, **bounds)
        rounds.append({keys.session_id for keys, entries in found.items() if len(entries) > 2})
        return found

    monkeypatch.setattr(worker._log, "read", noted)
    sessions = [await single.spoken(Story(talk())) for _ in range(6)]
    await worker.start()
    await single.ended(*sessions)
    assert max(map(len, rounds)) == 2
    for session in sessions:
        assert await session.facts() == session.expected()
