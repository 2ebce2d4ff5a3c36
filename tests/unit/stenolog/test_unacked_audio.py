"""Audio is kept until it is acked, and sent again from the server's position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenolog.client.unacked_audio import UnackedAudio, UnackedAudioError


def fill(unacked: UnackedAudio, sizes: list[int]) -> bytes:
    """Push blocks of these sizes in samples; returns their bytes."""
    pcm = bytes(index % 251 for index in range(2 * sum(sizes)))
    start = 0
    for size in sizes:
        unacked.push(pcm[start : start + 2 * size])
        start += 2 * size
    return pcm


def sent(unacked: UnackedAudio) -> bytes:
    """All blocks that are due."""
    blocks = []
    while (block := unacked.next_unsent()) is not None:
        blocks.append(block)
    return b"".join(blocks)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_a_resume_sends_exactly_what_the_server_lacks(sizes: list[int], data: st.DataObject) -> None:
    """SESS-9: after any acks, resuming at any offset not behind them sends every sample from there on, once."""
    unacked = UnackedAudio(2)
    pcm = fill(unacked, sizes)
    for _ in range(data.draw(st.integers(0, len(sizes)))):
        unacked.next_unsent()
    acked = data.draw(st.integers(0, sum(sizes)))
    unacked.ack(acked)
    offset = data.draw(st.integers(acked, sum(sizes)))
    unacked.rewind(offset)
    assert sent(unacked) == pcm[2 * offset :]
    assert unacked.acked_samples == offset


def test_blocks_are_sent_once_however_acks_come_between() -> None:
    """Acks between two sends neither repeat nor skip a block."""
    unacked = UnackedAudio(2)
    pcm = fill(unacked, [10, 10, 10])
    first = unacked.next_unsent()
    unacked.ack(10)
    assert first == pcm[:20]
    assert sent(unacked) == pcm[20:]


def test_an_offset_that_is_not_kept_any_more_is_refused() -> None:
    """A server that goes back behind its own acks, or beyond the audio, is an error instead of a gap."""
    unacked = UnackedAudio(2)
    fill(unacked, [10, 10])
    unacked.ack(10)
    for offset in (5, 21):
        with pytest.raises(UnackedAudioError):
            unacked.rewind(offset)
