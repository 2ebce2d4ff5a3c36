"""Audio is kept until it is acked, and sent again from wherever the server goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenolog.client.unacked_audio import UnackedAudio, UnackedAudioError


def fill(backlog: UnackedAudio, sizes: list[int]) -> bytes:
    """Push blocks of these sizes in samples; returns their bytes."""
    pcm = bytes(index % 251 for index in range(2 * sum(sizes)))
    start = 0
    for size in sizes:
        backlog.push(pcm[start : start + 2 * size])
        start += 2 * size
    return pcm


def sent(backlog: UnackedAudio) -> bytes:
    """Everything that is to be sent now."""
    blocks = []
    while (block := backlog.unsent()) is not None:
        blocks.append(block)
    return b"".join(blocks)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_a_resume_sends_exactly_what_the_server_lacks(sizes: list[int], data: st.DataObject) -> None:
    """SESS-9: after any acks, resuming at any offset not behind them sends every sample from there on, once."""
    backlog = UnackedAudio(2)
    pcm = fill(backlog, sizes)
    for _ in range(data.draw(st.integers(0, len(sizes)))):
        backlog.unsent()
    acked = data.draw(st.integers(0, sum(sizes)))
    backlog.ack(acked)
    offset = data.draw(st.integers(acked, sum(sizes)))
    backlog.rewind(offset)
    assert sent(backlog) == pcm[2 * offset :]
    assert backlog.acked_samples == offset


def test_blocks_are_sent_once_however_acks_come_between() -> None:
    """Acks between two sends neither repeat nor skip a block."""
    backlog = UnackedAudio(2)
    pcm = fill(backlog, [10, 10, 10])
    first = backlog.unsent()
    backlog.ack(10)
    assert first == pcm[:20]
    assert sent(backlog) == pcm[20:]


def test_an_offset_that_is_not_kept_any_more_is_refused() -> None:
    """A server that goes back behind its own acks, or beyond the audio, is an error instead of a gap."""
    backlog = UnackedAudio(2)
    fill(backlog, [10, 10])
    backlog.ack(10)
    for offset in (5, 21):
        with pytest.raises(UnackedAudioError):
            backlog.rewind(offset)
