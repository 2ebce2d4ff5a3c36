"""SIGTERM to each role in mid-speech: its clients and sessions move to other processes."""

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
# Up to the middle of the second sentence.
PART_BYTES = 2 * RATE_HZ * 5


async def test_a_stopping_edge_sends_its_clients_to_another(redis_url: str, tmp_path: Path) -> None:
    """SESS-8, SESS-9: closed with 1012 and the durable offset, clients resume on another without loss or repeats."""
    audio = spoken(SENTENCES)
    with Roles(redis_url, tmp_path) as roles:
        first, *_ = roles.one_of_each()
        second = roles.edge()
        speakers = [first.client() for _ in range(SESSIONS)]
        await asyncio.gather(*(_speak_part(speaker, audio) for speaker in speakers))
        first.send(signal.SIGTERM)
        codes = await asyncio.gather(*(speaker.closed() for speaker in speakers))
        assert codes == [errors.GOING_AWAY.close] * SESSIONS
        again = [second.client(speaker.resuming(speaker.finals)) for speaker in speakers]
        received = await asyncio.gather(*(_resume_to_end(*pair, audio) for pair in zip(again, speakers, strict=True)))
        assert first.ended() == 0
    assert received == [undisturbed(SENTENCES)] * SESSIONS


async def _speak_part(speaker: Speaker, audio: bytes) -> None:
    """Speak up to the middle of a sentence."""
    await speaker.__aenter__()
    assert await speaker.begin() == 0
    await speaker.say(audio[:PART_BYTES])


async def _resume_to_end(speaker: Speaker, before: Speaker, audio: bytes) -> list[str]:
    """Resume and speak to the end; returns the texts of both connections."""
    [error] = before.of("error")
    assert error["code"] == errors.GOING_AWAY.code
    assert f"offset {before.durable}" in error["message"]
    async with speaker:
        offset = await speaker.begin()
        assert offset >= before.durable
        await speaker.say(audio[2 * offset :])
        end = await speaker.finish()
    found = texts(before.finals + speaker.finals)
    assert end["transcript"] == " ".join(found)
    return found


async def test_a_stopping_worker_hands_over_within_a_second(redis_url: str, tmp_path: Path) -> None:
    """SESS-8: within a second of SIGTERM another worker holds all sessions of a worker, and each final comes once."""
    audio = spoken(SENTENCES)
    with Roles(redis_url, tmp_path) as roles:
        edge, leaving, _ = roles.one_of_each()
        speakers = [edge.client() for _ in range(SESSIONS)]
        await asyncio.gather(*(_speak_part(speaker, audio) for speaker in speakers))
        await eventually_async(lambda: _holders(roles, speakers) == {leaving.pid})
        staying = roles.worker()
        leaving.send(signal.SIGTERM)
        started = time.monotonic()
        await eventually_async(lambda: _holders(roles, speakers) == {staying.pid})
        taken_s = time.monotonic() - started
        ends = await asyncio.gather(*(_speak_rest(speaker, audio) for speaker in speakers))
        assert leaving.ended() == 0
    assert [texts(speaker.finals) for speaker in speakers] == [undisturbed(SENTENCES)] * SESSIONS
    assert ends == [" ".join(undisturbed(SENTENCES))] * SESSIONS
    assert taken_s <= HAND_OVER_S


def _holders(roles: Roles, speakers: list[Speaker]) -> set[int | None]:
    return {roles.holder(speaker.session_id) for speaker in speakers}


async def _speak_rest(speaker: Speaker, audio: bytes) -> str | None:
    await speaker.say(audio[PART_BYTES:])
    end = await speaker.finish()
    transcript: str | None = end["transcript"]
    return transcript


@pytest.mark.parametrize("role", ["projector", "worker"])
async def test_replacing_a_role_in_mid_speech_changes_nothing(role: str, redis_url: str, tmp_path: Path) -> None:
    """SESS-8, STITCH-2: the replacement of a role's only process in mid-speech changes no message of the client."""
    audio = spoken(SENTENCES)
    # Without AWS credentials the EventBridge sink logs a warning, early or late, which is no part of a replacement.
    with Roles(redis_url, tmp_path, STENOLOG_PROJECTIONS="lists,feeds,sessions,status") as roles:
        edge, worker, projector = roles.one_of_each()
        leaving = worker if role == "worker" else projector
        async with edge.client() as speaker:
            await speaker.begin()
            await speaker.say(audio[:PART_BYTES])
            leaving.send(signal.SIGTERM)
            assert await asyncio.to_thread(leaving.ended) == 0
            replaced = asyncio.to_thread(roles.worker if role == "worker" else roles.projector)
            await asyncio.gather(speaker.say(audio[PART_BYTES:]), replaced)
            end = await speaker.finish()
        warnings = [line for line in leaving.log.read_text().splitlines() if '"level":"info"' not in line]
    assert texts(speaker.finals) == undisturbed(SENTENCES)
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))
    assert warnings == []
