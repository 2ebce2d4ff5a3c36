"""Every format that is taken decodes to about the audio that was recorded."""

import pytest

from tests.integration.decoding.children import decoded
from tests.integration.decoding.recordings import NAMES, likeness, recording
from tests.support.pcm import talk

# AAC and Opus begin and end on their own frames, AAC with a priming that a stream without an index can't cut off.
MOST_ADDED = 3_500


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_decodes_to_what_was_recorded(name: str, channels: int) -> None:
    """Each format at its rate gives 16 kHz PCM of the same length and sound, channels apart (LIVE-5)."""
    found = decoded(recording(name, channels))
    assert found.status == 0, found.messages
    assert found.source is not None
    assert (found.source.channels, found.source.sample_rate_hz) == (channels, 16_000)
    meant = talk(16_000, channels)
    assert -400 <= len(found.samples) - len(meant) <= MOST_ADDED
    for channel in range(channels):
        alike = [likeness(found.samples[:, channel], meant[:, other]) for other in range(channels)]
        assert alike[channel] > 0.95
        assert max(alike) == alike[channel]
