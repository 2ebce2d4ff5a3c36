"""A worker decodes what it holds: from a container in the log to facts in the log."""

import pytest

from eventlog.events import ChannelsJudged, SessionEnded, SessionSealed, SourceDescribed, SourceNoted
from eventlog.positions import OPENED, SEALED
from tests.integration.decoding.children import decoded
from tests.integration.decoding.recordings import recording
from tests.integration.decoding.uploads import ended, opened, sent
from tests.support.deployment import Deployment, expected
from tests.support.pcm import Story
from tests.support.waiting import eventually_async


@pytest.mark.parametrize("channels", [1, 2])
async def test_a_container_becomes_the_facts_of_its_samples(deployment: Deployment, channels: int) -> None:
    """A recording's facts are those of a session that was sent its samples, after one that describes it (LIVE-5)."""
    data = recording("webm", channels)
    upload = await sent(deployment, data)
    await deployment.started()
    await ended([upload])
    found = decoded(data)
    story = Story(found.samples)
    facts = await upload.facts()
    finals = [one for one in facts if one[0].sequence == 0]
    assert finals == [one for one in expected(story, upload.keys.session_id) if one[0].sequence == 0]
    assert len(finals) > 3
    noted = [fact for _, fact in await upload.decoded_facts()]
    assert isinstance(noted[1], SourceNoted)
    assert (noted[1].container, noted[1].codec, noted[1].channels) == ("webm", "opus", channels)
    assert isinstance(noted[-1], SessionEnded)
    assert (noted[-1].reason, noted[-1].audio_samples) == ("stop", len(found.samples))
    assert await upload.pcm() == found.pcm
    await eventually_async(upload.is_freed)


async def test_the_description_is_the_second_entry(deployment: Deployment) -> None:
    """Audio begins with its start, the description and the layout of two channels, and ends with the seal (MEDIA-4)."""
    upload = await sent(deployment, recording("ogg", 2))
    await deployment.started()
    await ended([upload])
    (first, _), (second, described), (third, judged), (last, sealed) = await upload.events()
    assert (first, second, third, last) == (OPENED, OPENED.control(), OPENED.control().control(), SEALED)
    assert judged == ChannelsJudged(layout="split", is_pinned=True)
    assert isinstance(described, SourceDescribed)
    assert isinstance(sealed, SessionSealed)
    for keys in (upload.keys, upload.upload):
        about = await deployment.log.read_position(keys)
        assert about is not None
        assert about.start.channels == 2


async def test_audio_comes_while_the_client_still_sends(single: Deployment) -> None:
    """A live recording's samples and finals are in the log before its next bytes are sent."""
    data = recording("webm as recorded")
    upload = await opened(single)
    await single.started()
    half = len(data) // 2
    await upload.send(data[:half])

    async def has_final() -> bool:
        return any(at.offset and not at.sequence for at, _ in await upload.decoded_facts())

    await eventually_async(has_final, 20)
    assert not await upload.has_ended()
    await upload.send(data[half:])
    await upload.seal()
    await ended([upload])
    assert await upload.pcm() == decoded(data).pcm
