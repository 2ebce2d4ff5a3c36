"""SIGTERM to each role in the middle of speech, with processes of their own: clients and sessions go elsewhere."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from edge import errors
from tests.e2e.deployment import RATE_HZ, undisturbed
from tests.e2e.processes import Roles, Speaker, spoken, texts
from tests.support.waiting import eventually_async

SENTENCES = (1, 4, 2)
SESSIONS = 12
HAND_OVER_S = 1.0
# In the middle of the second sentence.
PART_BYTES = 2 * RATE_HZ * 5


async def test_a_leaving_edge_sends_its_clients_elsewhere(redis_url: str, tmp_path: Path) -> None:
    """SESS-8, SESS-9: told 1012 and what is durable, clients resume on the other edge; nothing is lost or doubled."""
    audio = spoken(SENTENCES)
    with Roles(redis_url, tmp_path) as roles:
        first, second = roles.edge(), roles.edge()
        roles.worker()
        roles.project()
        speakers = [first.client() for _ in range(SESSIONS)]
        await asyncio.gather(*(_interrupted(speaker, audio) for speaker in speakers))
        first.send(signal.SIGTERM)
        codes = await asyncio.gather(*(speaker.closed() for speaker in speakers))
        assert codes == [errors.GOING_AWAY.close] * SESSIONS
        again = [second.client(speaker.resuming(speaker.finals)) for speaker in speakers]
        heard = await asyncio.gather(*(_gone_on(*pair, audio) for pair in zip(again, speakers, strict=True)))
        assert first.ended() == 0
    assert heard == [undisturbed(SENTENCES)] * SESSIONS


async def _interrupted(speaker: Speaker, audio: bytes) -> None:
    """Speaks as far as the middle of a sentence."""
    await speaker.__aenter__()
    assert await speaker.begin() == 0
    await speaker.say(audio[:PART_BYTES])


async def _gone_on(speaker: Speaker, before: Speaker, audio: bytes) -> list[str]:
    """Resumes and speaks to the end; what both connections heard."""
    [told] = before.of("error")
    assert told["code"] == errors.GOING_AWAY.code
    assert f"offset {before.durable}" in told["message"]
    async with speaker:
        offset = await speaker.begin()
        assert offset >= before.durable
        await speaker.say(audio[2 * offset :])
        end = await speaker.finish()
    said = texts(before.finals + speaker.finals)
    assert end["transcript"] == " ".join(said)
    return said


async def test_a_leaving_worker_hands_its_sessions_over_within_a_second(redis_url: str, tmp_path: Path) -> None:
    """SESS-8: within a second of SIGTERM another worker has all of a worker's sessions, and each final comes once."""
    audio = spoken(SENTENCES)
    with Roles(redis_url, tmp_path) as roles:
        edge, leaving = roles.edge(), roles.worker()
        roles.project()
        speakers = [edge.client() for _ in range(SESSIONS)]
        await asyncio.gather(*(_interrupted(speaker, audio) for speaker in speakers))
        await eventually_async(lambda: _holders(roles, speakers) == {leaving.pid})
        staying = roles.worker()
        leaving.send(signal.SIGTERM)
        started = time.monotonic()
        await eventually_async(lambda: _holders(roles, speakers) == {staying.pid})
        taken_s = time.monotonic() - started
        ends = await asyncio.gather(*(_spoken_to_the_end(speaker, audio) for speaker in speakers))
        assert leaving.ended() == 0
    assert [texts(speaker.finals) for speaker in speakers] == [undisturbed(SENTENCES)] * SESSIONS
    assert ends == [" ".join(undisturbed(SENTENCES))] * SESSIONS
    assert taken_s <= HAND_OVER_S


def _holders(roles: Roles, speakers: list[Speaker]) -> set[int | None]:
    return {roles.holder(speaker.session_id) for speaker in speakers}


async def _spoken_to_the_end(speaker: Speaker, audio: bytes) -> str | None:
    await speaker.say(audio[PART_BYTES:])
    end = await speaker.finish()
    transcript: str | None = end["transcript"]
    return transcript


@pytest.mark.parametrize("role", ["projector", "worker"])
async def test_a_role_replaced_while_somebody_speaks_is_not_noticed(role: str, redis_url: str, tmp_path: Path) -> None:
    """SESS-8, STITCH-2: with a role's only process replaced in the middle of speech, the client hears the same."""
    audio = spoken(SENTENCES)
    with Roles(redis_url, tmp_path) as roles:
        edge, worker, project = roles.edge(), roles.worker(), roles.project()
        leaving = worker if role == "worker" else project
        async with edge.client() as speaker:
            await speaker.begin()
            await speaker.say(audio[:PART_BYTES])
            leaving.send(signal.SIGTERM)
            assert await asyncio.to_thread(leaving.ended) == 0
            replaced = asyncio.to_thread(roles.worker if role == "worker" else roles.project)
            await asyncio.gather(speaker.say(audio[PART_BYTES:]), replaced)
            end = await speaker.finish()
        complaints = [line for line in leaving.log.read_text().splitlines() if '"level":"info"' not in line]
    assert texts(speaker.finals) == undisturbed(SENTENCES)
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))
    assert complaints == []
