"""The passes over the clips of a call: greedy texts first, then beams, times and repairs for those that need them."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

from processor.recognisers.whisper.decoding import Alignment, Decoder, Text
from processor.recognisers.whisper.jobs import Job, batches
from processor.recognisers.whisper.memory import STATES_PER_S, Encoder, Memory
from processor.recognisers.whisper.vocabulary import Vocabulary
from processor.speech import guards, repeats, terms
from processor.speech.features import RECOGNISER_RATE_HZ

_BANNED_REPEAT = 5
"""Tokens: in the second look at a loop no phrase of five comes twice, so no loop survives it."""

_ALIGNED_MARGIN_S = 0.5
"""Silence behind a clip that alignment sees; more of the memory changes no time by over 0.06 s and costs twice."""

_LEAST_PIECE_S = 0.4
"""Lost speech shorter than this is not decoded alone."""

_MOST_PIECES = 4
"""Parts of one clip that are decoded alone: music has many that no decoding gives words to."""


class Passes:
    """Takes jobs from memory to text and alignment.

    Args:
        encoder: Makes memories.
        decoder: Decodes and aligns them.
        vocabulary: The model's tokens.
        beam: Hypotheses of a second look.
        batch_s: Seconds of memory that are decoded together.
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, vocabulary: Vocabulary, *, beam: int, batch_s: float
    ) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._vocabulary = vocabulary
        self._beam = beam
        self._batch_s = batch_s

    def run(self, jobs: list[Job]) -> None:
        """Give every job its text, and finals their alignment."""
        self._decode(jobs, beam=1)
        finals = [job for job in jobs if not job.clip.partial]
        self._decode([job for job in finals if _is_doubtful(job)], beam=self._beam)
        for job in finals:
            self._drop_invented(job)
        spoken = [job for job in finals if job.text is not None]
        self._align(spoken)
        for job in spoken:
            self._check_terms(job)
            self._mend_loop(job)
            self._mend_loss(job)
            _drop_unexplained(job)
            self._drop_repeats(job)
        for job in jobs:
            if job.text is not None and guards.is_silence(job.text.decoded):
                job.text = None

    def _decode(self, jobs: Iterable[Job], *, beam: int) -> None:
        for batch in batches(jobs, lambda job: (job.states, len(job.before)), self._batch_s):
            texts = self._decoder.decode(
                [job.memory for job in batch],
                [self._vocabulary.prompt(job.language, job.before) for job in batch],
                beam=beam,
                most_tokens=max(guards.most_tokens(job.clip_s) for job in batch),
            )
            for job, text in zip(batch, texts, strict=True):
                job.text = text if job.text is None else _better(job.text, text)
                job.decodes += 1

    def _align(self, jobs: Iterable[Job]) -> None:
        # One by one: together they took up to a third more, since memories of their own lengths are shorter.
        for job in jobs:
            if job.text is not None:
                job.alignment = self._alignment(job, job.memory, job.text.tokens)

    def _drop_invented(self, job: Job) -> None:
        """Take the text from a job whose words are silence or lie behind the clip."""
        if job.text is None:
            return
        if guards.is_silence(job.text.decoded):
            job.text = None
            job.marks.append("silence")
        elif guards.is_suspect(job.text.decoded):
            [alignment] = self._decoder.align(
                [job.memory], job.language, [job.text.tokens], [job.states / STATES_PER_S]
            )
            if guards.is_invented(alignment.edges_s[:-1].tolist(), job.clip_s):
                job.text = None
                job.marks.append("invented")

    def _check_terms(self, job: Job) -> None:
        """Decode a job without its terms if its text loops or has a term that the audio alone does not support."""
        if not job.before or job.text is None or job.alignment is None:
            return
        # Alignment reads the text without the terms, so its probabilities are those of the audio alone.
        words = [(word.text, job.alignment.probabilities[word.first : word.end]) for word in
                 self._vocabulary.words(job.text.tokens)]
        if not _is_squeezed(job) and terms.are_supported(words, job.clip.terms):
            return
        job.marks.append("terms")
        job.before, job.text, job.alignment = (), None, None
        self._decode([job], beam=self._beam)
        self._drop_invented(job)
        self._align([job])

    def _mend_loop(self, job: Job) -> None:
        """Decode a looping text again, lastly without repeats; cut off what still has no time to have been said."""
        if not _is_squeezed(job):
            return
        job.marks.append("loop")
        for text, alignment in self._second_looks(job, banned_repeat=_BANNED_REPEAT):
            if not guards.is_squeezed(alignment.edges_s):
                job.text, job.alignment = text, alignment
                return
        if job.text is not None and job.alignment is not None:
            self._put(job, job.text.tokens[: guards.squeezed_from(job.alignment.edges_s)])

    def _mend_loss(self, job: Job) -> None:
        """Decode a clip again that has voice without words; then decode by itself each part that is still missing."""
        lost_s = _lost_s(job)
        if not lost_s:
            return
        job.marks.append("tail" if self._unwritten(job)[-1][1] == job.clip_s else "gap")
        for text, alignment in self._second_looks(job):
            if guards.is_squeezed(alignment.edges_s) or job.text is None or len(text.tokens) <= len(job.text.tokens):
                continue
            left_s = _voiced_s(job, alignment)
            if left_s < lost_s:
                job.text, job.alignment, lost_s = text, alignment, left_s
            if not lost_s:
                return
        for start_s, end_s in self._unwritten(job)[: -_MOST_PIECES - 1 : -1]:  # from the end, which is most often lost
            self._insert(job, start_s, end_s)

    def _drop_repeats(self, job: Job) -> None:
        """Take out of a text each repeat of a phrase that has no time to have been said."""
        if job.text is None or job.alignment is None:
            return
        words = self._vocabulary.words(job.text.tokens)
        edges_s = [float(job.alignment.edges_s[word.first]) for word in words]
        drop = repeats.excess([terms.plain(word.text) for word in words], [*edges_s, job.clip_s])
        if not drop:
            return
        job.marks.append("repeat")
        tokens = list(job.text.tokens)
        for first, end in reversed(drop):
            del tokens[words[first].first : words[end - 1].end]
        self._put(job, tuple(tokens))

    def _second_looks(self, job: Job, *, banned_repeat: int = 0) -> Iterator[tuple[Text, Alignment]]:
        """Yield other texts of a job and their alignments, the cheapest first."""
        window = functools.cache(lambda: self._encoder.window(job.samples))
        looks: list[tuple[Callable[[], Memory], int]] = [(window, 0)]
        if job.decodes == 1:
            looks.insert(0, (lambda: job.memory, 0))
        if banned_repeat:
            looks.append((window, banned_repeat))
        for memory_of, banned in looks:
            memory = memory_of()
            [text] = self._decoder.decode(
                [memory],
                [self._vocabulary.prompt(job.language)],
                beam=self._beam,
                most_tokens=guards.most_tokens(job.clip_s),
                banned_repeat=banned,
            )
            job.decodes += 1
            if text.tokens:
                yield text, self._alignment(job, memory, text.tokens)

    def _insert(self, job: Job, start_s: float, end_s: float) -> None:
        """Decode a part of a clip by itself and put its words between those around it."""
        text, alignment = job.text, job.alignment
        if text is None or alignment is None:
            return
        words = self._vocabulary.words(text.tokens)
        before = [word for word in words if alignment.edges_s[word.first] <= start_s]
        place = before[-1].end if before else 0
        begin_s = float(alignment.edges_s[place]) if before else 0.0
        piece = job.samples[int(begin_s * RECOGNISER_RATE_HZ) : int(end_s * RECOGNISER_RATE_HZ)]
        if job.voice.between(begin_s, end_s) < _LEAST_PIECE_S:
            return
        [found] = self._decoder.decode(
            [self._encoder.memory(piece)],
            [self._vocabulary.prompt(job.language)],
            beam=self._beam,
            most_tokens=guards.most_tokens(end_s - begin_s),
        )
        job.decodes += 1
        if guards.is_silence(found.decoded) or guards.is_suspect(found.decoded):
            return
        self._put(job, (*text.tokens[:place], *found.tokens, *text.tokens[place:]))

    def _put(self, job: Job, tokens: tuple[int, ...]) -> None:
        """Give a job other tokens and their alignment."""
        if job.text is None:
            return
        decoded = dataclasses.replace(job.text.decoded, text=self._vocabulary.text(tokens), tokens=len(tokens))
        job.text = Text(tokens, decoded)
        job.alignment = self._alignment(job, job.memory, tokens)

    def _alignment(self, job: Job, memory: Memory, tokens: tuple[int, ...]) -> Alignment:
        [alignment] = self._decoder.align([memory[:, : _seen_states(job)]], job.language, [tokens], [job.clip_s])
        return alignment

    def _unwritten(self, job: Job) -> list[tuple[float, float]]:
        return guards.unwritten(job.alignment.edges_s, job.voice, job.clip_s) if job.alignment else []


def _is_doubtful(job: Job) -> bool:
    """Return whether a greedy text is too unsure, or empty although the model does not exclude speech."""
    if job.text is None or guards.is_certain_silence(job.text.decoded):
        return False
    if not guards.is_unsure(job.text.decoded) and not guards.is_silence(job.text.decoded):
        return False
    job.marks.append("unsure")
    return True


def _is_squeezed(job: Job) -> bool:
    return job.alignment is not None and guards.is_squeezed(job.alignment.edges_s)


def _lost_s(job: Job) -> float:
    return _voiced_s(job, job.alignment) if job.alignment else 0.0


def _drop_unexplained(job: Job) -> None:
    """Take an unsure text from a job if most of its voice is without words, even after all second looks."""
    if job.text is None or not guards.is_suspect(job.text.decoded):
        return
    if _lost_s(job) > guards.MOST_UNEXPLAINED * job.voice.between(0.0, job.clip_s):
        job.text = None
        job.marks.append("invented")


def _voiced_s(job: Job, alignment: Alignment) -> float:
    """Return for how long a job is voiced without words."""
    unwritten = guards.unwritten(alignment.edges_s, job.voice, job.clip_s)
    return sum(job.voice.between(start_s, end_s) for start_s, end_s in unwritten)


def _better(first: Text, second: Text) -> Text:
    return first if guards.better(first.decoded, second.decoded) is first.decoded else second


def _seen_states(job: Job) -> int:
    return min(job.states, int((job.clip_s + _ALIGNED_MARGIN_S) * STATES_PER_S))
