"""The recogniser: clips in, texts with the times of their words out."""

import math
from collections.abc import Sequence

from processor.recognisers.base import Clip, RecogniserError, Recognition
from processor.recognisers.whisper import words
from processor.recognisers.whisper.decoding import Decoder
from processor.recognisers.whisper.jobs import Job
from processor.recognisers.whisper.memory import WINDOW_S, Encoder
from processor.recognisers.whisper.model import chosen_device, languages_of, load_model, name_of
from processor.recognisers.whisper.passes import Passes
from processor.recognisers.whisper.vocabulary import Vocabulary
from processor.speech.features import RECOGNISER_RATE_HZ, to_recogniser_rate
from processor.speech.tones import is_tone
from processor.speech.voicing import voicing

_COMPUTE_TYPES = {"cpu": "int8", "cuda": "float16"}
"""CTranslate2's number format by device: the fastest on each."""

_BATCH_S = {"cpu": 240.0, "cuda": 960.0}
"""Seconds of memory decoded together: eight clips of the longest on CPUs."""


DETECT = frozenset({"auto", ""})
"""Languages of a clip that ask for detection."""


class WhisperRecogniser:
    """A faster-whisper model, fed each utterance with an encoded silence behind it instead of a window of 30 s.

    Doubtful results are decoded again. Nothing is sampled: the same clip gives the same text.

    Args:
        model: A directory, or a name that faster-whisper knows; None takes the bundled English model.
        device: "cpu", "cuda" or "auto".
        device_index: Which GPU, or several, each with `max_parallel` calls.
        compute_type: CTranslate2's number format; "auto" is int8 on CPUs and float16 on GPUs.
        cpu_threads: Threads for one call.
        max_parallel: How many calls run side by side, each with its own threads.
        beam: Hypotheses of a second look.
        max_batch: How many clips one call takes at most; more would keep the first of them waiting.
        batch_context_s: Seconds of memory decoded together; None is 240 on CPUs and 960 on GPUs.

    Raises:
        RecogniserError: faster-whisper or the model is missing or unusable.
    """

    name = "whisper"

    def __init__(  # noqa: PLR0913 -- settings of an engine, all by keyword
        self,
        *,
        model: str | None = None,
        device: str = "cpu",
        device_index: int | list[int] = 0,
        compute_type: str = "auto",
        cpu_threads: int = 1,
        max_parallel: int = 1,
        beam: int = 5,
        max_batch: int = 8,
        batch_context_s: float | None = None,
    ) -> None:
        device = chosen_device(device)
        self.max_batch = max_batch
        self.max_parallel = max_parallel
        self._model = load_model(
            model,
            device=device,
            device_index=device_index,
            compute_type=_COMPUTE_TYPES.get(device, "default") if compute_type == "auto" else compute_type,
            cpu_threads=cpu_threads,
            max_parallel=max_parallel,
        )
        self.model = name_of(model)
        self.languages = languages_of(self._model)
        self._vocabulary = Vocabulary(self._model.hf_tokenizer, multilingual=self._model.model.is_multilingual)
        self._encoder = Encoder(self._model.model, self._model.feature_extractor.mel_filters)
        self._decoder = Decoder(self._model.model, self._vocabulary)
        self._passes = Passes(
            self._encoder,
            self._decoder,
            self._vocabulary,
            beam=beam,
            batch_s=batch_context_s or _BATCH_S.get(device, _BATCH_S["cpu"]),
        )

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return one recognition per clip, in order.

        Raises:
            RecogniserError: The model could not run, or lacks a clip's language.
        """
        for clip in clips:
            self._require(clip)
        try:
            jobs = [self._job(clip) for clip in clips]
            self._passes.run([job for job in jobs if isinstance(job, Job)])
        except (RuntimeError, ValueError) as error:
            message = f"Whisper failed on {len(clips)} clips: {error}"
            raise RecogniserError(message, retryable=True) from error
        return [self._recognition(job) if isinstance(job, Job) else job for job in jobs]

    def close(self) -> None:
        """Free the model."""
        self._model.model.unload_model()

    def _require(self, clip: Clip) -> None:
        wanted = _code(clip.language)
        if wanted not in self.languages and wanted not in DETECT:
            message = f"the model {self.model} has no language {wanted}; it has {', '.join(sorted(self.languages))}"
            raise RecogniserError(message, retryable=False)

    def _job(self, clip: Clip) -> Job | Recognition:
        """Return a job with its memory, or at once the recognition of a clip that needs no model."""
        samples = to_recogniser_rate(clip.pcm, clip.sample_rate_hz)[: int(WINDOW_S * RECOGNISER_RATE_HZ)]
        if not samples.size:
            return self._nothing()
        if is_tone(samples):
            return self._nothing("tone")
        memory = self._encoder.memory(samples)
        language = _code(clip.language)
        if language in DETECT:
            only = next(iter(self.languages)) if len(self.languages) == 1 else None
            language = only or self._decoder.language(memory)
        # A partial goes without terms: it shares its batch, and names a term only where the audio alone says so.
        before = () if clip.partial else tuple(self._vocabulary.before(clip.terms, clip.prompt))
        return Job(clip, samples, voicing(samples), language, memory, before)

    def _nothing(self, *marks: str, decodes: int = 0) -> Recognition:
        return Recognition(text="", confidence=0.0, decodes=decodes, model=self.model, marks=marks)

    def _recognition(self, job: Job) -> Recognition:
        if job.text is None:
            return self._nothing(*job.marks, decodes=job.decodes)
        timed = (
            words.with_times(self._vocabulary.words(job.text.tokens), job.alignment, job.voice, job.clip_s)
            if job.alignment
            else ()
        )
        return Recognition(
            text=job.text.decoded.text,
            confidence=min(1.0, math.exp(job.text.decoded.mean_logprob)),
            decodes=job.decodes,
            words=timed,
            language=job.language,
            model=self.model,
            marks=tuple(job.marks),
        )


def _code(language: str) -> str:
    """Return a language's code without its region."""
    return language.lower().split("-")[0]
