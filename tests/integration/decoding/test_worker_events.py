"""Control events in an upload keep their place in the audio, whichever worker decodes."""

import asyncio

import numpy as np
import pytest

from eventlog.events import (
    ChannelsJudged,
    Finalized,
    HoleFound,
    HoleNoted,
    Paused,
    SessionEnded,
    SourceDescribed,
    UtteranceFinal,
)
from eventlog.positions import OPENED, Position
from tests.integration.decoding.children import decoded
from tests.integration.decoding.recordings import FORMATS, encoded, recording
from tests.integration.decoding.uploads import Upload, ended, opened, sent
from tests.support.deployment import Deployment, abandon, held
from tests.support.pcm import talk
from tests.support.servers import Server
from tests.support.stereo_pairs import delayed
from tests.support.waiting import eventually_async

LEASE_MS = 250
FIRST_BYTES = 100_000
"""Of `recording_of_one_talker`: a second and a half, less speech than its layout is judged by."""


def recording_of_one_talker() -> bytes:
    """Nine seconds of a talker as a live WAV: two channels in opposite phase, the second 6 ms late."""
    talker = talk()[8_000:, 0].astype(np.float64)
    pair = np.stack([talker, -delayed(talker, 6.0)], axis=1).clip(-32_768, 32_767).astype(np.int16)
    return encoded(pair, FORMATS["wav of 16 bit"])


async def reached(upload: Upload, kind: type, count: int = 1) -> list[Position]:
    """The positions of the audio's events of a kind, once it has so many."""

    async def look() -> list[Position] | None:
        found = [at for at, event in await upload.events() if isinstance(event, kind)]
        return found if len(found) >= count else None

    found = await eventually_async(look, 20)
    assert found is not None
    return found


async def test_an_event_comes_after_the_audio_before_it(deployment: Deployment) -> None:
    """A finalize amid a container stands behind the audio of the bytes before it, within a codec's delay."""
    data = recording("webm as recorded")
    upload = await opened(deployment)
    await deployment.started()
    half = len(data) // 4  # amid a sentence
    await upload.send(data[:half])
    await upload.append_event(Finalized())
    [at] = await reached(upload, Finalized)
    before = await upload.pcm()
    assert at == Position(len(before) // 2, 1)
    assert len(before) > 40_000
    await upload.send(data[half:])
    await upload.seal()
    await ended([upload])
    assert any(
        isinstance(fact, UtteranceFinal) and fact.decided_samples == at.offset // 160 * 160
        for _, fact in await upload.decoded_facts()
    )


async def test_an_early_event_waits_for_the_description(single: Deployment) -> None:
    """An event before any decodable byte comes right after the description, which is always second."""
    data = recording("ogg")
    upload = await opened(single)
    await upload.append_event(Finalized())
    await upload.send(data[:50])
    await upload.append_event(HoleFound(samples=1))
    await single.started()
    await upload.send(data[50:])
    await upload.seal()
    await ended([upload])
    positions = [(at, type(event)) for at, event in await upload.events()]
    assert positions[1:4] == [
        (OPENED.control(), SourceDescribed), (Position(0, 3), Finalized), (Position(0, 4), HoleFound),
    ]  # fmt: skip


@pytest.mark.parametrize("event", [Finalized(), Paused()], ids=["finalize", "pause"])
async def test_an_event_while_the_layout_is_open_has_it_judged(single: Deployment, event: Finalized | Paused) -> None:
    """A finalize or a pause within a talker's first words ends them at its place, in one channel (MEDIA-4)."""
    data = recording_of_one_talker()
    upload = await opened(single)
    await single.started()
    await upload.send(data[:FIRST_BYTES])
    await upload.append_event(event)
    [at] = await reached(upload, type(event))
    before = await upload.pcm()
    assert at == Position(len(before) // 2, 1)
    assert 20_000 < at.offset <= 25_000
    await upload.send(data[FIRST_BYTES:])
    await upload.seal()
    await ended([upload])
    [judged] = [one for _, one in await upload.events() if isinstance(one, ChannelsJudged)]
    assert judged == ChannelsJudged(layout="mix", delay_samples=96, is_inverted=True, is_pinned=True)


async def test_a_hole_while_the_layout_is_open_keeps_its_place(single: Deployment) -> None:
    """A hole in bytes whose samples are still held back stands among those samples, not before them (MEDIA-4)."""
    data = recording_of_one_talker()
    upload = await opened(single)
    await upload.send(data[:FIRST_BYTES])
    await upload._append(upload._head.advanced(4), b'{"event":"hole_found.v1","samples":4}', is_audio=False)
    await upload.send(data[FIRST_BYTES + 4 :])
    await upload.seal()
    await single.started()
    await ended([upload])
    [at] = [at for at, event in await upload.events() if isinstance(event, HoleFound)]
    assert 20_000 < at.offset <= 25_000


@pytest.mark.parametrize("pieces", [3, 12])
async def test_a_takeover_judges_alike(single: Deployment, pieces: int) -> None:
    """Whenever its worker dies, a stereo recording has the entries of an undisturbed one (MEDIA-4, SAFE-1)."""
    data = recording_of_one_talker()
    undisturbed = await sent(single, data)
    mortal = await single.started(lease_ms=LEASE_MS)
    await ended([undisturbed])
    killed = await opened(single)
    await killed.send(data[: len(data) * pieces // 12])
    await held(mortal, 1)
    if pieces > 3:
        await reached(killed, ChannelsJudged)
    await abandon(mortal)
    await single.started(lease_ms=LEASE_MS)
    await killed.send(data[len(data) * pieces // 12 :])
    await killed.seal()
    await ended([killed])
    assert await undisturbed.pcm() == await killed.pcm()
    assert (await undisturbed.events())[1:] == (await killed.events())[1:]


async def test_lost_bytes_are_a_hole(single: Deployment) -> None:
    """Where bytes of a container were lost a hole is noted, though its length is unknown, and decoding continues."""
    data = recording("ogg")
    third = len(data) // 3
    upload = await opened(single)
    await upload.send(data[:third])
    hole = upload._head.advanced(third)
    await upload._append(hole, b'{"event":"hole_found.v1","samples":%d}' % third, is_audio=False)
    await upload.send(data[2 * third :])
    await upload.seal()
    await single.started()
    await ended([upload])
    [(at, samples)] = [(at, event.samples) for at, event in await upload.events() if isinstance(event, HoleFound)]
    assert samples == 0
    [noted] = [fact for _, fact in await upload.decoded_facts() if isinstance(fact, HoleNoted)]
    assert noted.start_samples == noted.end_samples == at.offset
    assert 80_000 < len(await upload.pcm()) < 250_000


@pytest.mark.parametrize("name", ["webm as recorded", "webm"])
async def test_another_worker_decodes_again_harmlessly(deployment: Deployment, name: str) -> None:
    """After its holder's death an upload is decoded from its start again: no sample, event or fact differs (SAFE-1)."""
    data = recording(name, 2)
    quarter = len(data) // 4
    undisturbed, killed = [await opened(deployment) for _ in range(2)]
    mortal = await deployment.started(lease_ms=LEASE_MS, capacity=1)
    await held(mortal, 1)
    await held(await deployment.started(lease_ms=LEASE_MS, capacity=1), 1)
    for part in range(4):
        for upload in (undisturbed, killed):
            await upload.send(data[part * quarter : (part + 1) * quarter if part < 3 else None])
            await upload.append_event(Finalized())
        await asyncio.gather(*(reached(upload, Finalized, part + 1) for upload in (undisturbed, killed)))
        if part == 1:
            [run] = mortal.active_runs
            first = {upload.keys.session_id: upload for upload in (undisturbed, killed)}[run.claim.keys.session_id]
            await abandon(mortal)
            heir = await deployment.started(lease_ms=LEASE_MS, capacity=1)
            await held(heir, 1, hurried=True)
            assert first.keys.session_id == next(iter(heir.active_runs)).claim.keys.session_id
    for upload in (undisturbed, killed):
        await upload.seal()
    await ended([undisturbed, killed])
    assert await undisturbed.pcm() == await killed.pcm()
    assert [at for at, _ in await undisturbed.events()] == [at for at, _ in await killed.events()]
    assert (await undisturbed.facts())[1:] == (await killed.facts())[1:]
    for upload in (undisturbed, killed):
        await eventually_async(upload.is_freed)


async def test_lost_answers_only_delay(standalone: Server, single: Deployment) -> None:
    """A log whose connections break again and again while it is decoded to holds every sample once (SAFE-1)."""
    data = recording("flac", 2)
    upload = await sent(single, data)
    await single.started(max_read_bytes=20_000)
    [node] = standalone.nodes
    breaks = 0

    async def look() -> bool:
        nonlocal breaks
        if await upload.has_ended():
            return True
        if breaks < 25:
            breaks += 1
            node.command("CLIENT KILL TYPE normal SKIPME yes")
        return False

    await eventually_async(look, 60)
    assert breaks > 3
    assert await upload.pcm() == decoded(data).pcm
    *_, (_, last) = await upload.decoded_facts()
    assert isinstance(last, SessionEnded)
    assert (last.reason, last.audio_samples) == ("stop", len(decoded(data).samples))
