"""Stereo recordings by request and by socket: a talker's words come once, two talkers' from both."""

import numpy as np
import pytest

from tests.integration.decoding.recordings import FORMATS, encoded
from tests.integration.decoding.test_layouts import stereo, two_tracks
from tests.integration.edge.replicas import replica
from tests.support.pcm import sentence, talk
from tests.support.speech import client_of
from tests.support.stereo_pairs import ONE_TALKER, TWO_TALKERS, Sound, level

pytestmark = pytest.mark.usefixtures("path")


def talkers() -> tuple[Sound, Sound]:
    """Two talkers' speech, with a pause behind it."""
    pause = np.zeros(16_000)
    first, second = (sentence(number).astype(np.float64) for number in ("0930", "0880"))
    return np.concatenate([first, pause]), np.concatenate([second, pause])


@pytest.mark.parametrize("name", ["1 dB apart", "inverted", "a room on both", "noises at 50 dB"])
async def test_one_talkers_words_come_once(redis_url: str, name: str) -> None:
    """A stereo recording of one talker has the utterances of the mono recording, of one speaker (MEDIA-4)."""
    first, _ = talkers()
    mono = encoded(first.astype(np.int16).reshape(-1, 1), FORMATS["wav of 16 bit"])
    async with replica(redis_url) as edge, client_of(edge) as client:
        alone = (await client.post("/v1/transcribe", content=mono)).json()
        found = (await client.post("/v1/transcribe", content=stereo(ONE_TALKER[name](first)))).json()
    assert [one["speaker"] for one in found["utterances"]] == [one["speaker"] for one in alone["utterances"]] == ["1"]


@pytest.mark.parametrize("name", ["at once", "a jingle first, at once", "in turn, bleeding at -15 dB"])
async def test_two_talkers_are_two_speakers(redis_url: str, name: str) -> None:
    """A recording of two talkers, one a channel, has two speakers (MEDIA-4)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        found = (await client.post("/v1/transcribe", content=stereo(TWO_TALKERS[name](*talkers())))).json()
    assert {one["speaker"] for one in found["utterances"]} == {"1", "2"}


async def test_channels_1_of_an_inverted_pair_is_its_talker(redis_url: str) -> None:
    """With `channels=1` an inverted pair has the words of its first channel, not of silence (MEDIA-4)."""
    first, _ = talkers()
    mono = encoded(first.astype(np.int16).reshape(-1, 1), FORMATS["wav of 16 bit"])
    async with replica(redis_url) as edge, client_of(edge) as client:
        alone = (await client.post("/v1/transcribe", content=mono)).json()
        found = (await client.post("/v1/transcribe?channels=1", content=stereo((first, -first)))).json()
    assert found["transcript"] == alone["transcript"] != ""


async def test_a_recorded_file_is_judged_by_more_than_its_beginning(redis_url: str) -> None:
    """A file whose channels share their first seconds alone has two speakers; live, it has one (MEDIA-4)."""
    first, second = talkers()
    notice, silence = sentence("0870").astype(np.float64), np.zeros(8_000)
    left = np.concatenate([notice, silence, first, 0 * second, first, 0 * second])
    right = np.concatenate([level(notice, -1), silence, 0 * first, second, 0 * first, second])
    data = stereo((left, right))
    async with replica(redis_url) as edge, client_of(edge) as client:
        found = (await client.post("/v1/transcribe", content=data)).json()
        assert {one["speaker"] for one in found["utterances"]} == {"1", "2"}
        async with edge.connect("encoding=container") as socket:
            for at in range(0, len(data), 32_000):
                await socket.send(data[at : at + 32_000])
            await socket.send("stop")
            await socket.until("session_end")
            assert {final["speaker"] for final in socket.of("final")} == {"1"}


async def test_a_track_is_chosen_by_its_number(redis_url: str) -> None:
    """`track` names one of a file's audio tracks, unless it exists the request fails in words (MEDIA-4)."""
    data = two_tracks(talk()[:, 0], 1)
    async with replica(redis_url) as edge, client_of(edge) as client:
        texts = [
            (await client.post(f"/v1/transcribe{query}", content=data)).json()["transcript"]
            for query in ("", "?track=1", "?track=0")
        ]
        missing = await client.post("/v1/transcribe?track=7", content=data)
    assert texts[0] == texts[1] != texts[2] == ""
    assert missing.status_code == 422
    assert "holds no audio track 7" in missing.text
