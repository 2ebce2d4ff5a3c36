from hypothesis import assume, given
from hypothesis import strategies as st

from processor.recognisers import Clip, load

MOCK = load("mock")


def text_of(pcm: bytes, rate_hz: int = 16_000) -> str:
    """Return the mock's text of samples."""
    [recognition] = MOCK.recognise([Clip(pcm=pcm, sample_rate_hz=rate_hz)])
    return recognition.text


@given(seed=st.binary(min_size=64, max_size=64), at=st.integers(0, 31_999))
def test_every_sample_counts(seed: bytes, at: int) -> None:
    """Lost, doubled or changed samples give other words; the same samples give the same."""
    pcm, start = seed * 1_000, 2 * at
    assert text_of(pcm) == text_of(bytes(bytearray(pcm)))
    lost = pcm[:start] + pcm[start + 2 :]
    doubled = pcm[: start + 2] + pcm[start:]
    changed = pcm[:start] + bytes([pcm[start] ^ 1]) + pcm[start + 1 :]
    for other in (lost, doubled, changed):
        assume(other != pcm)
        assert text_of(other) != text_of(pcm)


def test_words_come_at_the_pace_of_speech() -> None:
    """Audio at any rate has one word per 300 ms, and no audio has none."""
    assert len(text_of(bytes(2 * 48_000), 48_000).split()) == 4
    assert len(text_of(bytes(2 * 16_000)).split()) == 4
    assert text_of(b"") == ""


def test_words_are_pinned() -> None:
    """The words do not change from process to process or from version to version."""
    assert text_of(bytes(range(256)) * 100) == "Ball bear born."
