"""The calls that the recogniser makes of the library: devices, languages, terms."""

from collections.abc import Iterator
from typing import Any

import faster_whisper
import pytest

from benchmarks import clips
from benchmarks.wer import word_error_rate
from processor.recognisers import Clip, RecogniserError
from processor.recognisers.whisper import WhisperRecogniser
from processor.speech.features import RECOGNISER_RATE_HZ

SENTENCES = clips.sentences()
REAL = faster_whisper.WhisperModel


@pytest.fixture(scope="module")
def whisper() -> Iterator[WhisperRecogniser]:
    """Load the bundled model once."""
    loaded = WhisperRecogniser()
    yield loaded
    loaded.close()


def clip(pcm: bytes, **options: Any) -> Clip:  # noqa: ANN401 -- any field of a clip
    """Return a clip at 16 kHz."""
    return Clip(pcm=pcm, sample_rate_hz=RECOGNISER_RATE_HZ, **options)


class Multilingual:
    """The bundled model, taken for a multilingual one that detects German; it notes what it is asked."""

    is_multilingual = True

    def __init__(self, model: Any) -> None:  # noqa: ANN401 -- ctranslate2 has no types
        self._model = model
        self.prompts: list[list[int]] = []
        self.openings: list[list[int]] = []
        self.detections = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the model has
        return getattr(self._model, name)

    def generate(self, states: Any, prompts: list[list[int]], **options: Any) -> Any:  # noqa: ANN401
        """Decode as the English model does."""
        self.prompts += prompts
        return self._model.generate(states, [[prompt[0], prompt[-1]] for prompt in prompts], **options)

    def align(self, states: Any, opening: list[int], *rest: Any) -> Any:  # noqa: ANN401
        """Align as the English model does."""
        self.openings.append(opening)
        return self._model.align(states, opening[:1], *rest)

    def detect_language(self, states: Any) -> list[list[tuple[str, float]]]:  # noqa: ANN401
        """Detect German everywhere."""
        self.detections += states.shape[0]
        return [[("<|de|>", 0.9), ("<|en|>", 0.1)]] * states.shape[0]


@pytest.fixture
def multilingual(monkeypatch: pytest.MonkeyPatch) -> Iterator[WhisperRecogniser]:
    """A recogniser with a multilingual model of two languages."""

    def load(*args: Any, **settings: Any) -> Any:  # noqa: ANN401
        loaded = REAL(*args, **settings)
        loaded.model = Multilingual(loaded.model)
        monkeypatch.setattr(type(loaded), "supported_languages", ["de", "en"])
        return loaded

    monkeypatch.setattr(faster_whisper, "WhisperModel", load)
    recogniser = WhisperRecogniser()
    yield recogniser
    recogniser.close()


def tokens(recogniser: WhisperRecogniser, *names: str) -> list[int]:
    """Return the numbers of markup tokens."""
    return [recogniser._model.hf_tokenizer.token_to_id(f"<|{name}|>") for name in names]


@pytest.mark.parametrize("language", ["auto", ""])
def test_a_multilingual_model_detects_each_utterance(multilingual: WhisperRecogniser, language: str) -> None:
    """WORD-2: asked for any language, the model detects it, decodes and aligns in it, and says which it was."""
    [found] = multilingual.recognise([clip(SENTENCES[4].pcm, language=language)])
    asked = multilingual._model.model
    assert found.language == "de"
    assert asked.detections == 1
    assert asked.prompts[0] == tokens(multilingual, "startoftranscript", "de", "transcribe", "notimestamps")
    assert asked.openings[0] == tokens(multilingual, "startoftranscript", "de", "transcribe")


def test_a_named_language_is_not_detected(multilingual: WhisperRecogniser) -> None:
    """WORD-8: the language that a clip names is the prompt's, its region apart, and costs no detection."""
    found = multilingual.recognise([clip(SENTENCES[4].pcm, language="en-GB"), clip(SENTENCES[4].pcm, language="de")])
    asked = multilingual._model.model
    assert [each.language for each in found] == ["en", "de"]
    assert asked.detections == 0
    assert {prompt[1] for prompt in asked.prompts} == set(tokens(multilingual, "en", "de"))
    assert multilingual.languages == {"de", "en"}


def test_a_language_that_the_model_lacks_is_refused(whisper: WhisperRecogniser) -> None:
    """WORD-2: an English-only model refuses German, naming both, instead of answering in English."""
    with pytest.raises(RecogniserError, match=r"tiny\.en has no language de; it has en") as raised:
        whisper.recognise([clip(SENTENCES[4].pcm, language="de")])
    assert not raised.value.retryable
    assert whisper.languages == {"en"}


def test_an_english_only_model_detects_english(whisper: WhisperRecogniser) -> None:
    """WORD-8: an English-only model takes "auto" for English, and each recognition names language and model."""
    [found] = whisper.recognise([clip(SENTENCES[4].pcm, language="auto")])
    assert (found.language, found.model) == ("en", "tiny.en")
    assert (whisper.name, whisper.model) == ("whisper", "tiny.en")


@pytest.mark.parametrize(
    ("gpus", "settings", "expected"),
    [
        (0, {}, {"device": "cpu", "compute_type": "int8", "device_index": 0, "num_workers": 1, "cpu_threads": 1}),
        (0, {"device": "auto", "cpu_threads": 3}, {"device": "cpu", "compute_type": "int8", "cpu_threads": 3}),
        (2, {"device": "auto"}, {"device": "cuda", "compute_type": "float16"}),
        (
            2,
            {"device": "cuda", "device_index": [0, 1], "max_parallel": 2},
            {"device": "cuda", "compute_type": "float16", "device_index": [0, 1], "num_workers": 2},
        ),
        (2, {"device": "cuda", "compute_type": "int8_float16"}, {"device": "cuda", "compute_type": "int8_float16"}),
        (2, {"device": "cpu", "compute_type": "float32"}, {"device": "cpu", "compute_type": "float32"}),
    ],
)
def test_devices_are_asked_of_the_library(
    monkeypatch: pytest.MonkeyPatch, gpus: int, settings: dict[str, Any], expected: dict[str, object]
) -> None:
    """WORD-9: device, index, number format, threads and workers reach the library as set; "auto" takes a GPU if any."""
    asked: dict[str, object] = {}

    def load(model: str, **options: object) -> Any:  # noqa: ANN401
        asked.update(options)
        return REAL(model, device="cpu", compute_type="int8", cpu_threads=1)

    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: gpus)
    monkeypatch.setattr(faster_whisper, "WhisperModel", load)
    WhisperRecogniser(**settings).close()
    assert asked.items() >= expected.items()


def test_the_beam_is_that_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORD-9: texts are greedy first, and a second look has the beam that is set."""
    recogniser = WhisperRecogniser(beam=3)
    asked: list[int] = []
    real = recogniser._decoder.decode

    def decode(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        asked.append(options["beam"])
        return real(*args, **options)

    monkeypatch.setattr(recogniser._decoder, "decode", decode)
    monkeypatch.setattr("processor.speech.guards.UNSURE_MEAN_LOGPROB", 0.0)
    recogniser.recognise([clip(SENTENCES[4].pcm)])
    recogniser.close()
    assert asked == [1, 3]


def test_terms_mend_what_the_audio_supports(whisper: WhisperRecogniser) -> None:
    """WORD-6: a term that was said is written as the client spells it; a clip without terms is decoded as before."""
    plain, helped = whisper.recognise(
        [clip(SENTENCES[1].pcm), clip(SENTENCES[1].pcm, terms=("ill-disposed", "Dashwood"))]
    )
    assert "ill-disposed" in helped.text
    assert "Dashwood" not in helped.text
    assert plain.text == whisper.recognise([clip(SENTENCES[1].pcm)])[0].text


def test_foreign_terms_are_never_invented(whisper: WhisperRecogniser) -> None:
    """WORD-6: terms that were not said are in no text, and spoil none."""
    terms = ("Kubernetes", "Okonkwo", "PostgreSQL", "Zyrtec", "Terraform", "Lisinopril")
    found = whisper.recognise([clip(spoken.pcm, terms=terms) for spoken in SENTENCES])
    assert not [term for term in terms for each in found if term.lower() in each.text.lower()]
    assert word_error_rate([(spoken.words, each.text) for spoken, each in zip(SENTENCES, found, strict=True)]) <= 5 / 70


def test_an_unsupported_term_is_taken_back(whisper: WhisperRecogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORD-6: a text with a term that the audio alone does not support is decoded again without terms."""
    monkeypatch.setattr("processor.speech.terms.LEAST_MEAN_LOGPROB", 0.0)
    alone, found = whisper.recognise([clip(SENTENCES[0].pcm), clip(SENTENCES[0].pcm, terms=("Dashwood",))])
    assert "terms" in found.marks
    assert found.text == alone.text
    assert found.decodes == 2


def test_terms_and_prompt_are_bounded(whisper: WhisperRecogniser) -> None:
    """WORD-6: however many terms and however long a prompt, at most 200 tokens go before the text."""
    terms = tuple(f"term number {index}" for index in range(500))
    before = whisper._vocabulary.before(terms, "word " * 500)
    assert 190 < len(before) <= 200
    assert whisper._vocabulary.before((), "a b c")[-1:] == whisper._vocabulary.before((), "c")
    [found] = whisper.recognise([clip(SENTENCES[4].pcm, terms=terms, prompt="word " * 500)])
    assert "amiable" in found.text
